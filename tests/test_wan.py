"""RDVFI-D's backbone on diffusers' real classes at toy size, against diffusers' own."""

import itertools
from typing import Any

import pytest
import torch
from hypothesis import settings
from torch import Tensor

import rdvfi
from rdvfi import testing
from rdvfi.backbones.wan.architecture import fresh_autoencoder, fresh_transformer
from rdvfi.backbones.wan.autoencoder import decode_frames, encode_clip, encode_frames
from rdvfi.backbones.wan.frame_layout import Frames, Layout
from rdvfi.backbones.wan.generator import IMAGE_ROWS, TEXT_ROWS, WanKeyframes
from rdvfi.backbones.wan.rope import FreeTimeRope

few = settings(max_examples=20, deadline=None, derandomize=True)


def _made(**config: Any) -> WanKeyframes:
    torch.manual_seed(0)
    made = rdvfi.backbones.create("wan", size="toy", **config).eval().requires_grad_(False)
    assert isinstance(made, WanKeyframes)
    return made


def _pair(b: int = 2, h: int = 32, w: int = 48) -> tuple[Tensor, Tensor]:
    first, last = (testing.smooth_noise(b, 3, h, w, seed=seed).sigmoid() for seed in (0, 1))
    return first, last


def _noise(made: WanKeyframes, images: Tensor) -> Tensor:
    b, _, h, w = images.shape
    return torch.randn(made.noise_shape(b, h, w), generator=torch.Generator().manual_seed(2))


def _statistics(made: WanKeyframes) -> tuple[Tensor, Tensor]:
    keys = ("latents_mean", "latents_std")
    mean, std = (torch.tensor(made.vae.config[key]).view(1, -1, 1, 1, 1) for key in keys)
    return mean, std


class Listening(torch.nn.Module):
    """A transformer that keeps what it is given."""

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        self.inner, self.config, self.rope = transformer, transformer.config, transformer.rope
        self.proj_out = transformer.proj_out
        self.heard: list[Tensor] = []

    def forward(self, x: Tensor, t: Tensor, text: Tensor, image: Tensor, return_dict: bool) -> tuple[Tensor]:
        self.heard += [x, t, text, image]
        return self.inner(x, t, text, image, return_dict=return_dict)


def _heard(**how: Any) -> tuple[WanKeyframes, list[Tensor]]:
    listening = Listening(fresh_transformer("toy").requires_grad_(False))
    vae = fresh_autoencoder("toy").requires_grad_(False)
    made = WanKeyframes(listening, vae, **how).eval()
    img0, img1 = _pair()
    made(img0, img1, _noise(made, img0))
    return made, listening.heard


# The contract.


@pytest.mark.slow
def test_causal_layouts_keep_the_contract_of_a_generator() -> None:
    # That of single frames is in the suite over all registered entries.
    testing.check_generator(_made(layout="CAUSAL_25"))


def test_several_steps_keep_the_contract_of_a_generator() -> None:
    testing.check_generator(_made(num_inference_steps=3, sampler="UNIPC", shift=3.0))


# Conditioning.


def test_the_channels_are_noise_then_mask_then_what_is_known() -> None:
    made, (x, t, text, image) = _heard()
    img0, img1 = _pair()
    assert x.shape == (2, 36, 9, 4, 6)
    assert torch.equal(x[:, :16], _noise(made, img0).transpose(1, 2))
    mask, known = x[:, 16:20], x[:, 20:]
    assert (mask[:, :, [0, 8]] == 1).all()
    assert (mask[:, :, 1:8] == 0).all()
    grey = made.encode(torch.full_like(img0, 0.5))
    assert float(grey.abs().mean()) > 0.1, "grey is not zero, or this test shows nothing"
    torch.testing.assert_close(known[:, :, 0], made.encode(img0))
    torch.testing.assert_close(known[:, :, 8], made.encode(img1))
    for i in range(1, 8):
        torch.testing.assert_close(known[:, :, i], grey)
    assert t.dtype == torch.float32
    assert t.tolist() == [1000.0, 1000.0]
    assert text.shape == (2, TEXT_ROWS, 16)
    assert image.shape == (2, IMAGE_ROWS, 4)
    assert not text.any()
    assert not image.any()


@pytest.mark.parametrize(("layout", "clip"), [(Layout.CAUSAL_25, 25), (Layout.CAUSAL_33, 33)])
def test_causal_conditioning_is_that_of_the_published_model(layout: Layout, clip: int) -> None:
    """As VideoX-Fun and diffusers pack it: four masks per latent, of which the first counts four.

    The packing is written out here as they do it: repeat the first frame, view, transpose.
    """
    made, (x, *_) = _heard(frames=Frames(layout))
    img0, img1 = _pair()
    per_frame = torch.zeros(1, 1, clip)
    per_frame[..., 0] = per_frame[..., -1] = 1.0
    repeated = torch.cat((per_frame[..., :1].repeat(1, 1, 4), per_frame[..., 1:]), dim=2)
    packed = repeated.view(1, -1, 4).transpose(1, 2)
    assert torch.equal(x[:1, 16:20, :, 0, 0], packed)
    assert packed[0, :, -1].tolist() == [0.0, 0.0, 0.0, 1.0]
    pixels = torch.zeros(2, 3, clip, 32, 48)  # mid grey in [-1, 1]
    pixels[:, :, 0], pixels[:, :, -1] = 2 * img0 - 1, 2 * img1 - 1
    raw = made.vae.encode(pixels).latent_dist.mode()
    mean, std = _statistics(made)
    known = made.condition(img0, img1).channels[:, 4:]
    torch.testing.assert_close(known, (raw - mean) / std, rtol=0, atol=1e-5)
    torch.testing.assert_close(x[:, 20:], known, rtol=0, atol=1e-5)
    assert len(made.knot_times) == (clip - 1) // 4 + 1


def test_the_first_latent_of_a_clip_is_that_of_its_frame() -> None:
    made, (img0, img1) = _made(), _pair()
    clip = torch.stack((img0, img1, img1, img1, img1), dim=2)
    torch.testing.assert_close(encode_clip(made.vae, clip)[:, :, 0], made.encode(img0))


def test_a_given_context_is_given_to_the_network_and_filled_up() -> None:
    row, picture = torch.randn(1, 16), torch.randn(IMAGE_ROWS, 4)
    _, (_, _, text, image) = _heard(prompt_embeds=row, image_embeds=picture)
    assert torch.equal(text[1, :1], row)
    assert not text[:, 1:].any()
    assert torch.equal(image[1], picture)


def test_zero_context_is_not_the_same_as_none() -> None:
    transformer: Any = fresh_transformer("toy").requires_grad_(False)
    for parameter in transformer.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    x, t, text = torch.randn(1, 36, 9, 4, 6), torch.tensor([1000.0]), torch.zeros(1, 512, 16)
    given = transformer(x, t, text, torch.zeros(1, 257, 4), return_dict=False)[0]
    omitted = transformer(x, t, text, return_dict=False)[0]
    assert (given - omitted).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"prompt_embeds": torch.zeros(513, 16)}, r"prompt_embeds must be at most 512 rows of 16"),
        ({"prompt_embeds": torch.zeros(3, 15)}, r"rows of 16; got \(3, 15\)"),
        ({"image_embeds": torch.zeros(1, 4)}, r"image_embeds must be 257 rows of 4; got \(1, 4\)"),
    ],
)
def test_a_context_that_does_not_fit_is_refused(given: dict[str, Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WanKeyframes(fresh_transformer("toy"), fresh_autoencoder("toy"), **given)  # pyright: ignore


def test_a_transformer_that_is_not_for_inp_is_refused() -> None:
    other = fresh_transformer("toy")
    other.register_to_config(in_channels=16)  # pyright: ignore
    with pytest.raises(ValueError, match=r"needs an InP transformer \(36 input.*got 16 channels"):
        WanKeyframes(other, fresh_autoencoder("toy"))


@pytest.mark.parametrize("frames", [2, 3, 4, 8, 32])
def test_a_clip_whose_end_the_autoencoder_would_drop_is_refused(frames: int) -> None:
    vae: Any = fresh_autoencoder("toy").requires_grad_(False)
    clip = torch.rand(1, 3, frames, 16, 16)
    # The trap: no error, and the last frames have no say.
    kept = 1 + 4 * ((frames - 1) // 4)
    shown = vae.encode(clip).latent_dist.mode()
    assert torch.equal(shown, vae.encode(clip[:, :, :kept]).latent_dist.mode())
    with pytest.raises(ValueError, match=rf"clips of 4 k \+ 1 frames; got {frames}"):
        encode_clip(vae, clip)


def test_frames_of_a_batch_do_not_touch_each_other() -> None:
    made, (img0, img1) = _made(), _pair()
    both = made.encode(torch.cat((img0, img1)))
    torch.testing.assert_close(both[:2], made.encode(img0))
    torch.testing.assert_close(both[2:], made.encode(img1))


# Steps.


def test_sampling_needs_a_step() -> None:
    with pytest.raises(ValueError, match="num_inference_steps must be at least 1; got 0"):
        _made(num_inference_steps=0)


def test_one_step_of_the_generator_is_noise_minus_velocity() -> None:
    made, (img0, img1) = _made(), _pair()
    noise = _noise(made, img0)
    condition = made.condition(img0, img1)
    x = torch.cat((noise.transpose(1, 2), condition.channels), dim=1)
    text, image = torch.zeros(2, 512, 16), torch.zeros(2, 257, 4)
    u = made.transformer(x, torch.full((2,), 1000.0), text, image, return_dict=False)[0]
    expected = (noise.transpose(1, 2) - u).transpose(1, 2)
    got = made(img0, img1, noise).latents
    torch.testing.assert_close(got[:, 1:-1], expected[:, 1:-1], rtol=0, atol=1e-6)
    pure = made.denoise(noise, torch.ones(2), condition)
    torch.testing.assert_close(pure, expected, rtol=0, atol=1e-6)


# Times.


def test_times_at_integers_are_the_original_rotary_embedding() -> None:
    transformer: Any = fresh_transformer("toy")
    stock = transformer.rope
    for f, h, w in ((9, 4, 6), (7, 32, 56)):
        latents = torch.empty(1, 36, f, h, w)
        ours = FreeTimeRope(stock, tuple(map(float, range(f))))(latents)
        for got, expected in zip(ours, stock(latents), strict=True):
            assert torch.equal(got, expected)


def test_the_full_size_rotary_embedding_is_the_original_too() -> None:
    from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed

    stock = WanRotaryPosEmbed(128, (1, 2, 2), 1024)
    ours = FreeTimeRope(stock, Frames().positions).table(9, 32, 56)
    for got, expected in zip(ours, stock(torch.empty(1, 1, 9, 32, 56)), strict=True):
        assert torch.equal(got, expected)


def test_attention_sees_only_how_far_times_are_apart() -> None:
    """The law of a rotary embedding, at times that no table holds."""
    transformer: Any = fresh_transformer("toy")
    d = transformer.rope.t_dim
    q, k = torch.randn(2, d, generator=torch.Generator().manual_seed(1)).double()

    def product(at: float, other: float) -> float:
        cos, sin = FreeTimeRope(transformer.rope, (at, other)).table(2, 2, 2)
        turned = []
        for x, row in ((q, 0), (k, 1)):
            c, s = cos[0, row, 0, :d].double(), sin[0, row, 0, :d].double()
            swapped = torch.stack((-x[1::2], x[0::2]), dim=-1).flatten()
            turned.append(x * c + swapped * s)
        return float(turned[0] @ turned[1])

    expected = product(0.0, 1.3)
    for start in (0.25, 2.0, 6.1):
        assert product(start, start + 1.3) == pytest.approx(expected, abs=1e-5)
    assert product(0.0, 1.4) != pytest.approx(expected, abs=1e-3)


def test_knots_may_be_anywhere_between() -> None:
    made = _made(knots=[0.0, 0.1, 0.55, 1.0])
    img0, img1 = _pair()
    keyframes = made(img0, img1, _noise(made, img0))
    torch.testing.assert_close(keyframes.times, torch.tensor([0.0, 0.1, 0.55, 1.0]))
    assert keyframes.latents.shape == (2, 4, 16, 4, 6)
    assert made.frames.positions == pytest.approx((0.0, 0.8, 4.4, 8.0))
    moved = _made(knots=[0.0, 0.2, 0.55, 1.0])
    apart = moved(img0, img1, _noise(made, img0)).latents - keyframes.latents
    assert apart.abs().max() > 1e-6, "times must reach the network"


def test_default_knots_are_eighths_at_the_integers_of_pretraining() -> None:
    assert Frames().times == tuple(i / 8 for i in range(9))
    assert Frames().positions == tuple(map(float, range(9)))
    assert Frames(Layout.CAUSAL_25).times == tuple(i / 6 for i in range(7))


@pytest.mark.parametrize("knots", [(0.0,), (0.0, 0.5), (0.1, 1.0), (0.0, 0.6, 0.6, 1.0)])
def test_wrong_knots_are_refused(knots: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="knots must increase from 0 to 1"):
        Frames(knots=knots)
    with pytest.raises(ValueError, match="free in the layout PER_FRAME only"):
        Frames(Layout.CAUSAL_33, (0.0, 1.0))


def test_frames_too_large_for_the_model_are_refused() -> None:
    made = _made()
    image = torch.zeros(1, 3, 16, 1040)
    with pytest.raises(ValueError, match="too large for a model of 64 positions"):
        made(image, image, _noise(made, image))


# Pixels.


def test_latents_are_decoded_one_by_one_or_as_the_clip_they_are() -> None:
    for layout, clip in (("PER_FRAME", 0), ("CAUSAL_25", 25)):
        made = _made(layout=layout)
        img0, img1 = _pair()
        latents = made(img0, img1, _noise(made, img0)).latents
        images = made.decode_between(latents)
        assert images.shape == (2, len(made.knot_times) - 2, 3, 32, 48)
        if clip == 0:
            for i, j in itertools.product(range(2), range(7)):
                alone = decode_frames(made.vae, latents[i : i + 1, j + 1])
                torch.testing.assert_close(images[i : i + 1, j], alone, rtol=0, atol=1e-6)
            continue
        raw = latents.transpose(1, 2)
        mean, std = _statistics(made)
        whole = made.vae.decode(raw * std + mean).sample * 0.5 + 0.5
        assert whole.shape[2] == clip
        torch.testing.assert_close(images, whole[:, :, 4:-1:4].transpose(1, 2), rtol=0, atol=1e-5)


def test_encoding_is_the_mode_normalised() -> None:
    made, (img0, _) = _made(), _pair()
    latent = encode_frames(made.vae, img0)
    raw = made.vae.encode(2 * img0[:, :, None] - 1).latent_dist.mode()[:, :, 0]
    config = made.vae.config
    for i in range(16):
        expected = (raw[:, i] - config["latents_mean"][i]) / config["latents_std"][i]
        torch.testing.assert_close(latent[:, i], expected, rtol=0, atol=1e-6)

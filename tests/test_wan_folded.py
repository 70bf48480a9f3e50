"""What is computed once for inference gives what diffusers' own layers give."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import rdvfi
from rdvfi import testing
from rdvfi.backbones.constant_context import Folded, distinct_rows
from rdvfi.backbones.wan.architecture import fresh_autoencoder, fresh_transformer
from rdvfi.backbones.wan.autoencoder import FlatAutoencoder, decode_frames, encode_frames
from rdvfi.backbones.wan.folded import PreparedTransformer, fold_cross
from rdvfi.backbones.wan.frame_layout import Frames, Layout
from rdvfi.backbones.wan.generator import WanKeyframes


def _shaken(module: Any) -> Any:
    """Weights away from their start, so that no path is idle."""
    generator = torch.Generator().manual_seed(3)
    for parameter in module.requires_grad_(False).parameters():
        parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return module.eval()


def _made(**how: Any) -> WanKeyframes:
    torch.manual_seed(0)
    return WanKeyframes(_shaken(fresh_transformer("toy")), _shaken(fresh_autoencoder("toy")), **how).eval()


def _pair(h: int = 32, w: int = 48) -> tuple[Tensor, Tensor]:
    first, last = (testing.smooth_noise(2, 3, h, w, seed=seed).sigmoid() for seed in (0, 1))
    return first, last


def _noise(made: WanKeyframes, images: Tensor) -> Tensor:
    b, _, h, w = images.shape
    return torch.randn(made.noise_shape(b, h, w), generator=torch.Generator().manual_seed(2))


# Cross-attention to a constant context.


def test_rows_that_repeat_are_attended_to_once() -> None:
    torch.manual_seed(0)
    few = torch.randn(3, 8, dtype=torch.float64)
    context = few[torch.tensor([0] * 5 + [1] + [2] * 11)]
    rows, counts = distinct_rows(context)
    assert sorted(counts.tolist()) == [1.0, 5.0, 11.0]
    keys, values = (torch.nn.Linear(8, 12).requires_grad_(False) for _ in range(2))
    queries = torch.randn(2, 7, 12)
    folded = Folded(keys(rows.float()), values(rows.float()), counts, heads=3)

    def split(x: Tensor) -> Tensor:
        return x.unflatten(-1, (3, 4)).transpose(-3, -2)

    whole = context.float().expand(2, -1, -1)
    expected = F.scaled_dot_product_attention(split(queries), split(keys(whole)), split(values(whole)))
    testing.assert_close(folded.attend(queries), expected.transpose(1, 2).flatten(2))
    wrong = Folded(folded.keys, folded.values, counts.clamp(max=10.0), heads=3)
    assert (wrong.attend(queries) - folded.attend(queries)).abs().max() > 1e-4


def test_equal_rows_are_a_constant() -> None:
    rows, counts = distinct_rows(torch.zeros(512, 8))
    assert len(rows) == 1
    assert counts.tolist() == [512.0]
    folded = Folded(torch.randn(1, 12), torch.randn(1, 12), counts, heads=3)
    assert torch.equal(folded.attend(torch.randn(2, 5, 12)), folded.values.expand(2, 5, 12))


@pytest.mark.parametrize("prompt", ["none", "null row", "many rows"])
def test_folded_cross_attention_is_the_layers_own(prompt: str) -> None:
    transformer = _shaken(fresh_transformer("toy"))
    torch.manual_seed(1)
    text, image = torch.zeros(512, 16), torch.zeros(257, 4)
    if prompt != "none":
        text[: 1 if prompt == "null row" else 60] = torch.randn(1, 16)
    if prompt == "many rows":
        text[:60] = torch.randn(60, 16)
        image = torch.randn(257, 4)
    embedder = transformer.condition_embedder
    words, picture = embedder.text_embedder(text), embedder.image_embedder(image[None])[0]
    (rows, counts), (seen, times) = distinct_rows(text), distinct_rows(image)
    layer, x = transformer.blocks[1].attn2, torch.randn(2, 30, 24)
    folded = fold_cross(
        layer,
        (embedder.text_embedder(rows), counts),
        (embedder.image_embedder(seen[None])[0], times),
    )
    context = torch.cat((picture, words)).expand(2, -1, -1)
    expected = layer(x, context, None, None)
    if folded.constant is not None:
        assert prompt == "none"
        got = folded.constant.expand_as(x)
    else:
        queries = layer.norm_q(layer.to_q(x))
        assert folded.image is not None
        got = layer.to_out[0](folded.text.attend(queries) + folded.image.attend(queries))
    testing.assert_close(got, expected)


# The transformer.


@pytest.mark.parametrize("prompt", [False, True])
def test_the_prepared_transformer_is_the_transformer(prompt: bool) -> None:
    transformer = _shaken(fresh_transformer("toy"))
    WanKeyframes(transformer, fresh_autoencoder("toy"))  # gives it our rotary embedding
    text, image = torch.zeros(512, 16), torch.zeros(257, 4)
    if prompt:
        text[0] = torch.randn(16)
    times = (1000.0, 640.0, 3.5)
    prepared = PreparedTransformer(transformer, times, text, image)
    x = torch.randn(2, 36, 9, 4, 6)
    for step, time in enumerate(times):
        contexts = text.expand(2, -1, -1), image.expand(2, -1, -1)
        expected = transformer(x, torch.full((2,), time), *contexts, return_dict=False)[0]
        testing.assert_close(prepared(x, step), expected)
        prepared.prepare_size(9, 4, 6)
        testing.assert_close(prepared(x, step), expected)


# The autoencoder.


def test_for_single_frames_the_autoencoder_is_two_dimensional() -> None:
    vae = _shaken(fresh_autoencoder("toy"))
    flat, (img0, img1) = FlatAutoencoder(vae), _pair()
    images = torch.cat((img0, img1))
    latents = encode_frames(vae, images)
    testing.assert_close(flat.encode(images), latents)
    testing.assert_close(flat.decode(latents), decode_frames(vae, latents))
    assert decode_frames(vae, latents).std() > 0.01


def test_another_autoencoder_is_not_collapsed() -> None:
    vae: Any = fresh_autoencoder("toy")
    vae.register_to_config(is_residual=True)
    with pytest.raises(ValueError, match=r"only the autoencoder of Wan2\.1"):
        FlatAutoencoder(vae)


# All of it.


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"prompt_embeds": torch.ones(1, 16)},
        {"frames": Frames(knots=(0.0, 0.3, 0.45, 1.0))},
        {"frames": Frames(Layout.CAUSAL_25)},
        {"num_inference_steps": 3},
    ],
    ids=["one step", "prompt", "knots", "clip", "three steps"],
)
def test_optimized_keyframes_are_the_same(how: dict[str, Any]) -> None:
    made, (img0, img1) = _made(**how), _pair()
    noise = _noise(made, img0)
    before = made(img0, img1, noise)
    images = made.decode_between(before.latents)
    saved = made.state_dict()
    assert made.optimize(size=(16, 16)) is made
    after = made(img0, img1, noise)
    testing.assert_close(after.latents, before.latents, tolerance=2e-5)
    testing.assert_close(made.decode_between(before.latents), images, tolerance=2e-5)
    testing.assert_close(made(img0, img1, noise).latents, after.latents, tolerance=1e-6)
    assert made.state_dict().keys() == saved.keys()


def test_training_is_never_optimized() -> None:
    made = _made()
    made.transformer.requires_grad_(True)
    with pytest.raises(RuntimeError, match=r"optimize\(\) is for inference"):
        made.optimize()
    made.requires_grad_(False)
    with pytest.raises(RuntimeError, match=r"optimize\(\) is for inference"):
        made.train().optimize()
    made.eval().optimize(size=(32, 48))
    made.transformer.requires_grad_(True)  # without a word
    img0, img1 = _pair()
    made(img0, img1, _noise(made, img0)).latents.sum().backward()
    text = made.transformer.blocks[0].attn2.to_v.bias.grad
    assert text is not None
    assert text.any(), "a folded layer would get no gradient"
    made.train()
    assert made._prepared is None


def test_what_was_prepared_follows_the_weights() -> None:
    made, (img0, img1) = _made().optimize(size=(32, 48)), _pair()
    noise = _noise(made, img0)
    before = made(img0, img1, noise).latents
    state = {name: 1.3 * tensor for name, tensor in made.state_dict().items()}
    made.load_state_dict(state)
    fresh = _made()
    fresh.load_state_dict(state)
    testing.assert_close(made(img0, img1, noise).latents, fresh(img0, img1, noise).latents)
    assert (made(img0, img1, noise).latents - before).abs().max() > 1e-2
    double = made.double()(img0.double(), img1.double(), noise.double()).latents
    assert double.dtype == torch.float64


def test_half_precision_keeps_its_islands_and_its_result() -> None:
    made, (img0, img1) = _made(), _pair()
    noise = _noise(made, img0)
    exact = made(img0, img1, noise).latents
    made = made.to(torch.bfloat16)
    kept = {name for name, p in made.named_parameters() if p.dtype == torch.float32}
    assert "transformer.scale_shift_table" in kept
    assert "transformer.condition_embedder.time_embedder.linear_1.weight" in kept
    assert "transformer.proj_out.weight" not in kept
    assert made.transformer.rope.time_cos.dtype == torch.float32
    assert next(made.parameters()).dtype == torch.bfloat16
    halves = [x.bfloat16() for x in (img0, img1, noise)]
    plain = made(*halves)
    assert plain.times.dtype == torch.float32
    folded = made.optimize(size=(32, 48))(*halves)
    scale = exact.abs().max()
    assert (plain.latents - exact).abs().max() < 0.05 * scale
    assert (folded.latents - exact).abs().max() < 0.05 * scale


# The model around it.


@torch.no_grad()
def test_a_model_is_optimized_and_reuses_the_frame_that_two_pairs_share() -> None:
    sizes = ("flow.width=8", "trajectory.width=8", "renderer.width=8")
    model = rdvfi.build("rdvfi_d", "backbone.size=toy", *sizes).eval().requires_grad_(False)
    made = model.generator
    assert isinstance(made, WanKeyframes)
    img0, img1 = _pair()
    img2 = img1.flip(-1)
    expected = [model.estimate(*pair).keyframes.latents for pair in ((img0, img1), (img1, img2))]
    assert model.optimize() is model
    assert made._prepared is not None
    first = model.estimate(img0, img1)
    testing.assert_close(first.keyframes.latents, expected[0], tolerance=2e-5)
    encoded: list[int] = []
    encode = made.encode
    made.encode = lambda images: (encoded.append(len(images)), encode(images))[1]
    second = model.estimate(img1, img2, after=first)
    assert encoded == [2], "only the new frames are encoded"
    testing.assert_close(second.keyframes.latents, expected[1], tolerance=2e-5)
    testing.assert_close(model.render(img1, img2, second, [0.5]), model(img1, img2, [0.5]), tolerance=1e-5)
    with pytest.raises(ValueError, match="estimated for 2 pairs"):
        model.estimate(img1[:1], img2[:1], after=first)

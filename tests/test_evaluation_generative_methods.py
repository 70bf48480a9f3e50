"""Wan direct and Generative Inbetweening at toy size: diffusers' real pipelines and classes, fresh weights."""

import sys
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import torch
from torch import Tensor

from rdvfi.backbones.pretrained_parts import prepare_diffusers
from rdvfi.backbones.svd.networks import new_autoencoder, new_unet
from rdvfi.backbones.wan.architecture import fresh_autoencoder, transformer_config
from rdvfi.evaluation import generative_methods as generative
from rdvfi.evaluation.baselines import CrossFade
from rdvfi.evaluation.measurement import measure
from rdvfi.evaluation.methods import create_method, create_methods
from rdvfi.evaluation.procedural import procedural_windows
from rdvfi.testing import smooth_noise

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
TIMES = torch.tensor([0.25, 0.5, 0.75])


def pair(h: int = 60, w: int = 70) -> tuple[Tensor, Tensor]:
    first = smooth_noise(1, 3, h, w, seed=5).sigmoid()
    return first, first.roll((2, 3), (2, 3))


@pytest.fixture(scope="module", params=["one frame's features", "both frames' features"])
def wan(request: pytest.FixtureRequest) -> Any:
    """Wan's pipeline without text encoder; the image encoder is CLIP at toy size."""
    pytest.importorskip("transformers", reason="the extra 'generators' is not installed")
    prepare_diffusers()
    from diffusers import FlowMatchEulerDiscreteScheduler, WanImageToVideoPipeline, WanTransformer3DModel
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

    torch.manual_seed(0)
    positions = None if request.param.startswith("one") else 10
    config = CLIPVisionConfig(
        hidden_size=4, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
    )
    return WanImageToVideoPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=fresh_autoencoder("toy"),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        image_processor=CLIPImageProcessor(size={"shortest_edge": 28}, crop_size=28),
        image_encoder=CLIPVisionModel(config).eval(),
        transformer=WanTransformer3DModel(**{**transformer_config("toy"), "pos_embed_seq_len": positions}).eval(),
    )


@pytest.fixture(scope="module")
def svd() -> Any:
    pytest.importorskip("transformers", reason="the extra 'generators' is not installed")
    prepare_diffusers()
    from diffusers import EulerDiscreteScheduler, StableVideoDiffusionPipeline
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, image_size=224, patch_size=112,
        projection_dim=8,
    )  # fmt: skip
    scheduler = EulerDiscreteScheduler(
        prediction_type="v_prediction", timestep_type="continuous", timestep_spacing="leading", use_karras_sigmas=True,
        sigma_min=0.002, sigma_max=700.0, beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012,
        interpolation_type="linear", steps_offset=1,
    )  # fmt: skip
    return StableVideoDiffusionPipeline(
        vae=new_autoencoder("toy"),
        image_encoder=CLIPVisionModelWithProjection(config).eval(),
        unet=new_unet("toy", inputs=8),
        scheduler=scheduler,
        feature_extractor=CLIPImageProcessor(),
    )


@pytest.mark.parametrize("steps", [1, 3])
def test_wan_makes_the_frames_between(wan: Any, steps: int) -> None:
    method = generative.WanDirect(wan, steps=steps)
    frames = method(*pair(), TIMES)
    assert frames.shape == (1, 3, 3, 60, 70)
    assert frames.isfinite().all()
    assert frames.min() >= 0.0
    assert frames.max() <= 1.0
    assert torch.equal(frames, method(*pair(), TIMES)), "it does not repeat"
    assert not torch.equal(frames, method(*pair()[::-1], TIMES)), "the frames are not looked at"


def as_pil(image: Tensor) -> Any:
    return PIL.Image.fromarray((255 * image[0]).round().byte().permute(1, 2, 0).numpy())


def test_wans_frames_are_those_of_its_pipeline(wan: Any) -> None:
    img0, img1 = pair(64, 80)
    frames = generative.WanDirect(wan, steps=2)(img0, img1, TIMES)
    with torch.inference_mode():
        own = wan(
            image=as_pil(img0), last_image=as_pil(img1), height=64, width=80,
            num_frames=5, num_inference_steps=2, guidance_scale=1.0, prompt_embeds=torch.zeros(1, 8, 16),
            generator=torch.Generator().manual_seed(0), output_type="pt",
        ).frames  # fmt: skip
    torch.testing.assert_close(frames, own[:, 1:4].clamp(0, 1), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("gap", "wan_frames", "svd_frames"), [(2, 5, 25), (8, 9, 25), (9, 37, 28), (24, 25, 25)])
def test_sequences_hold_every_frame_that_is_asked_for(gap: int, wan_frames: int, svd_frames: int) -> None:
    for length, expected in (
        (generative.WanDirect.sequence_length, wan_frames),
        (generative.GenerativeInbetweening.sequence_length, svd_frames),
    ):
        frames = length(None, gap)  # pyright: ignore[reportArgumentType]
        assert frames == expected
        assert (frames - 1) % gap == 0
    assert (wan_frames - 1) % 4 == 0


def test_uneven_times_are_refused(wan: Any) -> None:
    with pytest.raises(ValueError, match="makes evenly spaced frames"):
        generative.WanDirect(wan)(*pair(), torch.tensor([0.1, 0.5]))


class _Short(generative.GenerativeInbetweening):
    """With sequences as short as the gap, for tests."""

    def sequence_length(self, gap: int) -> int:
        return gap + 1


def test_inbetweening_makes_the_frames_between(svd: Any) -> None:
    method = _Short(svd, steps=3, injections=1)
    frames = method(*pair(), TIMES)
    assert frames.shape == (1, 3, 3, 60, 70)
    assert frames.isfinite().all()
    assert torch.equal(frames, method(*pair(), TIMES)), "it does not repeat"


def test_the_fused_velocity_is_symmetric_in_time(svd: Any) -> None:
    """Swapped conditions and a reversed sequence give the reversed velocity, when both networks are one."""
    method = _Short(svd, steps=2)
    torch.manual_seed(1)
    noisy = torch.randn(1, 5, 4, 8, 8)
    timestep = torch.tensor(1.0)
    with torch.inference_mode():
        conditions = [method._condition(image, 5, torch.Generator().manual_seed(3)) for image in pair(64, 64)]
        actual = method._fuse_velocities(noisy, 2.0, timestep, conditions)
        mirrored = method._fuse_velocities(noisy.flip(1), 2.0, timestep, conditions[::-1])
    torch.testing.assert_close(mirrored.flip(1), actual, rtol=1e-4, atol=1e-4)


def test_the_step_is_that_of_diffusers_scheduler(svd: Any) -> None:
    svd.scheduler.set_timesteps(4)
    torch.manual_seed(2)
    noisy = torch.randn(1, 3, 4, 8, 8) * svd.scheduler.init_noise_sigma
    for i, timestep in enumerate(svd.scheduler.timesteps):
        svd.scheduler.scale_model_input(noisy, timestep)
        velocity = torch.randn_like(noisy)
        expected = svd.scheduler.step(velocity, timestep, noisy).prev_sample
        frames = generative.euler_step(
            noisy, velocity, float(svd.scheduler.sigmas[i]), float(svd.scheduler.sigmas[i + 1])
        )
        torch.testing.assert_close(frames, expected, rtol=1e-4, atol=1e-4)
        noisy = expected


def test_the_backward_network_has_its_temporal_attention_turned(svd: Any) -> None:
    """Turning the map by 180 degrees turns which frames look at which: plain softmax attention as reference."""
    backward = new_unet("toy", inputs=8)
    backward.load_state_dict(svd.unet.state_dict())
    attention = next(
        m for n, m in backward.named_modules() if "temporal_transformer_blocks" in n and n.endswith("attn1")
    )
    torch.manual_seed(4)
    states = torch.randn(2, 5, attention.to_q.in_features)
    with torch.no_grad():
        plain = attention(states)
        assert generative.rotate_temporal_attention(backward) > 0
        turned = attention(states)
        heads = attention.heads
        q, k, v = (
            f(states).unflatten(-1, (heads, -1)).transpose(1, 2)
            for f in (attention.to_q, attention.to_k, attention.to_v)
        )
        weights = (q @ k.transpose(-1, -2) * attention.scale).softmax(-1)
        by_hand = [(w @ v).transpose(1, 2).flatten(2) for w in (weights, weights.flip(-2, -1))]
        for actual, reference in zip((plain, turned), by_hand, strict=True):
            torch.testing.assert_close(actual, attention.to_out[0](reference), rtol=1e-4, atol=1e-5)
    frames = _Short(svd, backward, steps=1, injections=0)(*pair(), TIMES)
    assert not torch.equal(frames, _Short(svd, steps=1, injections=0)(*pair(), TIMES))


@pytest.mark.parametrize("name", ["wan-50", "wan-1", "gi", "gi:/nowhere", "wan-50:/nowhere"])
def test_without_weights_the_row_says_so_and_the_others_go_on(name: str, tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("transformers", reason="the extra 'generators' is not installed")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"hf download|backward network"):
        create_method(name)
    methods = create_methods([name, "blend"])
    row, blend = measure(procedural_windows(3, pairs=1), methods, device=torch.device("cpu")).scores
    assert row.failed is not None
    assert "cache of huggingface_hub" in row.failed or "backward network" in row.failed
    assert isinstance(methods[1], CrossFade)
    assert blend.psnr > 10.0


def test_without_transformers_the_row_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"need the package 'transformers'.*rdvfi\[generators\]"):
        create_method("gi")

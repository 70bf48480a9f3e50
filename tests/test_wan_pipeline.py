"""RDVFI-D whole, at toy size: from images to frames, and in both stages of training."""

from collections.abc import Iterable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import rdvfi
from rdvfi.backbones.wan.generator import WanKeyframes
from rdvfi.interfaces import Denoised, Keyframes, Motion
from rdvfi.testing import smooth_noise

TOY = ("backbone.size=toy", "flow.width=8", "trajectory.width=8", "renderer.width=8")


def _model(*overrides: str) -> rdvfi.Interpolator:
    return rdvfi.build("rdvfi-d", *TOY, *overrides)


def _generator(model: rdvfi.Interpolator) -> WanKeyframes:
    assert isinstance(model.generator, WanKeyframes)
    return model.generator


def _pair(h: int = 32, w: int = 48) -> tuple[Tensor, Tensor]:
    first = smooth_noise(1, 3, h, w, seed=5).sigmoid()
    return first, first.roll((2, 3), (2, 3))


@torch.no_grad()
def test_frames_come_from_images() -> None:
    model, (img0, img1) = _model().eval(), _pair(70, 90)
    frames = model(img0, img1, [0.0, 0.3, 1.0])
    assert frames.shape == (1, 3, 3, 70, 90)
    assert frames.isfinite().all()
    torch.testing.assert_close(frames[:, 0], img0, rtol=0, atol=1e-5)
    torch.testing.assert_close(frames[:, 2], img1, rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("layout", ["PER_FRAME", "CAUSAL_25"])
def test_a_flow_that_reads_pixels_gets_decoded_keyframes(layout: str) -> None:
    model = rdvfi.build("rdvfi-d", TOY[0], f"backbone.layout={layout}", "flow=dis", "renderer=warp").eval()
    img0, img1 = _pair()
    keyframes = model.estimate(img0, img1).keyframes
    assert keyframes.images is not None
    expected = model.generator.decode_between(keyframes.latents)
    assert torch.equal(keyframes.images[:, 1:-1], expected)
    assert torch.equal(keyframes.images[:, -1], img1)
    assert model(img0, img1, [0.5]).isfinite().all()


def test_the_model_by_name_has_no_public_weights() -> None:
    with pytest.raises(FileNotFoundError, match=r"'rdvfi-d' has no public weights.*rdvfi train"):
        rdvfi.create_model("rdvfi-d")


# Training.


def _with_gradients(module: nn.Module) -> set[str]:
    return {n for n, p in module.named_parameters() if p.grad is not None and bool(p.grad.any())}


def _true_keyframes(generator: WanKeyframes, clip: Tensor) -> Keyframes:
    with torch.no_grad():
        latents = generator.encode(clip.flatten(0, 1)).unflatten(0, clip.shape[:2])
    return Keyframes(latents, generator.times())


def _shaken(parameters: Iterable[nn.Parameter]) -> None:
    """Move the last layers off zero, so that gradients reach what is before them."""
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(0.05 * torch.randn_like(parameter))


def _clip() -> Tensor:
    first = smooth_noise(1, 3, 32, 48, seed=5).sigmoid()
    return torch.stack([first.roll(i, 3) for i in range(9)], dim=1)


def test_stage_one_trains_motion_and_synthesis_on_true_latents() -> None:
    model, clip = _model().train(), _clip()
    _shaken(model.parameters())
    model.generator.requires_grad_(False)
    keyframes = _true_keyframes(_generator(model), clip)
    motion = Motion.of(keyframes, model.trajectory(keyframes))
    times = torch.tensor([0.375])
    frames = model.renderer(clip[:, 0], clip[:, -1], motion, times)
    F.mse_loss(frames, clip[:, 3:4]).backward()
    assert not _with_gradients(model.generator)
    for part in (model.trajectory, model.renderer):
        reached = _with_gradients(part)
        missed = {name for name, _ in part.named_parameters()} - reached
        assert len(reached) > len(missed), f"no gradient for {missed}"
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("checkpointed", [False, True])
def test_stage_two_trains_the_transformer_through_the_frozen_rest(checkpointed: bool) -> None:
    """L_theta on the velocity at any noise level, and L_rec on frames."""
    model, clip = _model().train(), _clip()
    _shaken(model.parameters())
    model.requires_grad_(False)
    generator = _generator(model)
    generator.transformer.requires_grad_(True)
    if checkpointed:
        generator.transformer.enable_gradient_checkpointing()
    truth = _true_keyframes(generator, clip)
    clean = truth.latents
    noise, sigma = torch.randn_like(clean), torch.tensor([0.8])
    img0, img1 = clip[:, 0], clip[:, -1]
    condition = generator.condition(img0, img1, latent0=clean[:, 0], latent1=clean[:, -1])
    noisy = generator.noise_process.add_noise(clean, noise, sigma)
    made = generator.denoise(noisy, sigma, condition)
    theta = F.mse_loss(made, clean) / sigma.square()
    keyframes = generator.keyframes(condition, Denoised(made))
    motion = Motion.of(keyframes, model.trajectory(keyframes))
    frame = model.renderer(img0, img1, motion, torch.tensor([0.6]))
    rec = F.mse_loss(frame, clip[:, 5:6])
    through_frames = torch.autograd.grad(rec, generator.transformer.proj_out.weight, retain_graph=True)[0]
    assert through_frames.any(), "frames must teach the transformer"
    (theta + 0.5 * rec).backward()
    assert all(name.startswith("generator.transformer.") for name in _with_gradients(model))
    reached = _with_gradients(generator.transformer)
    missed = {name for name, _ in generator.transformer.named_parameters()} - reached
    # With equal rows of context the queries and keys of cross-attention have no say.
    idle = ("attn2.to_q", "attn2.to_k", "attn2.norm_q", "attn2.norm_k", "attn2.add_k_proj")
    idle += ("attn2.norm_added_k", "norm2", "text_embedder", "image_embedder")
    assert all(any(part in name for part in idle) for name in missed), missed
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_a_step_of_training_lowers_the_loss() -> None:
    model, clip = _model().train(), _clip()
    generator = _generator(model)
    model.requires_grad_(False)
    generator.transformer.requires_grad_(True)
    truth = _true_keyframes(generator, clip)
    clean = truth.latents
    noise, sigma = torch.randn_like(clean), torch.ones(1)
    condition = generator.condition(clip[:, 0], clip[:, -1])
    optimizer = torch.optim.Adam(generator.transformer.parameters(), 3e-3)
    losses = []
    for _ in range(20):
        loss = F.mse_loss(generator.denoise(noise, sigma, condition), clean)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]

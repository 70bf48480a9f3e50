"""RDVFI-U whole, at toy size: from images to frames, saved and loaded, and in training."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import rdvfi
from rdvfi.backbones.svd.generator import SVDKeyframes
from rdvfi.backbones.svd.networks import new_autoencoder, new_unet
from rdvfi.interfaces import Condition, Keyframes, Motion
from rdvfi.testing import smooth_noise

TOY = ("backbone.size=toy", "flow.width=8", "trajectory.width=8", "renderer.width=8")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the published one: the U-Net reads one frame."""
    torch.manual_seed(5)
    folder = tmp_path_factory.mktemp("published")
    new_unet("toy", inputs=8).save_pretrained(folder / "unet")
    new_autoencoder("toy").save_pretrained(folder / "vae")
    return folder


@pytest.fixture
def model() -> rdvfi.Interpolator:
    return rdvfi.build("rdvfi_u", *TOY).eval().requires_grad_(False)


def _pair(h: int = 64, w: int = 80) -> tuple[Tensor, Tensor]:
    first = smooth_noise(1, 3, h, w, seed=5).sigmoid()
    return first, first.roll((2, 3), (2, 3))


def _generator(model: rdvfi.Interpolator) -> SVDKeyframes:
    assert isinstance(model.generator, SVDKeyframes)
    return model.generator


# Inference.


@torch.no_grad()
def test_frames_come_from_images(model: rdvfi.Interpolator) -> None:
    img0, img1 = _pair(70, 90)
    frames = model(img0, img1, [0.0, 0.3, 1.0])
    assert frames.shape == (1, 3, 3, 70, 90)
    assert frames.isfinite().all()
    torch.testing.assert_close(frames[:, 0], img0, rtol=0, atol=1e-5)
    torch.testing.assert_close(frames[:, 2], img1, rtol=0, atol=1e-5)
    _generator(model).optimize()
    torch.testing.assert_close(model(img0, img1, [0.0, 0.3, 1.0]), frames, rtol=0, atol=1e-4)


@torch.no_grad()
def test_a_flow_that_reads_pixels_gets_decoded_keyframes() -> None:
    model = rdvfi.build("rdvfi_u", TOY[0], "flow=dis", "renderer=warp").eval()
    img0, img1 = _pair()
    keyframes = model.estimate(img0, img1).keyframes
    assert keyframes.images is not None
    expected = model.generator.decode_between(keyframes.latents)
    assert torch.equal(keyframes.images[:, 1:-1], expected)
    assert torch.equal(keyframes.images[:, 0], img0)


def test_a_saved_model_is_the_same_model(model: rdvfi.Interpolator, tmp_path: Path) -> None:
    _generator(model).set_image_embedding(torch.randn(1, 1, 8))
    _generator(model).optimize()
    model.save_pretrained(tmp_path)
    again = rdvfi.create_model(tmp_path)
    img0, img1 = _pair()
    assert torch.equal(again.state_dict()["generator.image_embedding"], _embedding(model))
    torch.testing.assert_close(again(img0, img1, [0.4]), model(img0, img1, [0.4]), rtol=0, atol=1e-5)


def _embedding(model: rdvfi.Interpolator) -> Tensor:
    return _generator(model).image_embedding


def test_the_model_by_name_has_no_public_weights() -> None:
    with pytest.raises(FileNotFoundError, match=r"'rdvfi-u' has no public weights.*rdvfi train"):
        rdvfi.create_model("rdvfi-u")


# Published weights.


@torch.no_grad()
def test_published_weights_are_loaded_and_widened(published: Path) -> None:
    model = rdvfi.build("rdvfi_u", *TOY, f"backbone.source={published}").eval()
    torch.manual_seed(5)
    original = new_unet("toy", inputs=8)
    mine = _generator(model).unet.state_dict()
    for name, tensor in original.state_dict().items():
        got = mine[name]
        assert torch.equal(got[:, :8] if name == "conv_in.weight" else got, tensor), name
    assert not mine["conv_in.weight"][:, 8:].any()
    assert model(*_pair(), [0.5]).isfinite().all()


def test_a_trained_network_is_loaded_as_wide_as_it_was_saved(published: Path, tmp_path: Path) -> None:
    trained = new_unet("toy")
    torch.nn.init.normal_(trained.conv_in.weight)
    trained.save_pretrained(tmp_path / "unet")
    (tmp_path / "vae").symlink_to(published / "vae")
    made = rdvfi.backbones.create("svd", source=str(tmp_path), size="toy")
    assert isinstance(made, SVDKeyframes)
    assert torch.equal(made.unet.conv_in.weight, trained.conv_in.weight)


def test_networks_of_another_size_are_refused(published: Path) -> None:
    with pytest.raises(ValueError, match=r"unet of .* is not of size 'full'.* expected"):
        rdvfi.backbones.create("svd", source=str(published))


def test_a_network_that_is_not_whole_is_refused(published: Path, tmp_path: Path) -> None:
    (tmp_path / "vae").symlink_to(published / "vae")
    (tmp_path / "unet").mkdir()
    for file in (published / "unet").iterdir():
        (tmp_path / "unet" / file.name).write_bytes(file.read_bytes())
    config = tmp_path / "unet" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "in_channels": 9}))
    with pytest.raises(ValueError, match=r"unet.*(conv_in|in_channels|mismatched)"):
        rdvfi.backbones.create("svd", source=str(tmp_path), size="toy")


# Training.


def _clip() -> Tensor:
    """Nine frames of a texture that moves at constant speed."""
    texture = smooth_noise(1, 3, 64, 80, seed=7).sigmoid()
    return torch.stack([texture.roll(i, 3) for i in range(9)], dim=1)


def _missing(module: torch.nn.Module) -> list[str]:
    """Parameters that are trained and got no gradient, or one that is not finite."""
    return [
        name
        for name, p in module.named_parameters()
        if p.requires_grad and (p.grad is None or not p.grad.isfinite().all())
    ]


def test_stage_one_trains_motion_and_synthesis_on_true_latents(model: rdvfi.Interpolator) -> None:
    clip, generator = _clip(), _generator(model)
    model.trajectory.requires_grad_(True)
    model.renderer.requires_grad_(True)
    latents = generator.encode(clip.flatten(0, 1)).unflatten(0, clip.shape[:2])
    keyframes = Keyframes(latents, torch.linspace(0, 1, 9))
    motion = Motion.of(keyframes, model.trajectory(keyframes))
    frames = model.renderer(clip[:, 0], clip[:, -1], motion, torch.tensor([0.25, 0.6]))
    F.mse_loss(frames[:, 0], clip[:, 2]).backward()
    assert _missing(model.trajectory) == []
    assert _missing(model.renderer) == []
    assert all(p.grad is None for p in generator.parameters())


def test_stage_two_trains_the_network_through_frozen_motion_and_synthesis(
    model: rdvfi.Interpolator,
) -> None:
    clip, generator = _clip(), _generator(model)
    generator.train()
    generator.unet.requires_grad_(True)
    clean = generator.encode(clip.flatten(0, 1)).unflatten(0, clip.shape[:2])
    noise, sigma = torch.randn(clean.shape), torch.tensor([0.7])
    process, condition = generator.noise_process, Condition(clean[:, 0], clean[:, -1])
    noisy = process.add_noise(clean, noise, sigma)
    made = generator.denoise(noisy, sigma, condition)
    answer = process.velocity_from_clean(noisy, made, sigma)
    theta = F.mse_loss(answer, process.velocity(clean, noise, sigma))
    theta.backward()
    assert _missing(generator.unet) == []
    assert generator.unet.conv_in.weight.grad[:, 8:].any()
    generator.unet.zero_grad()
    # Synthesis starts with zero gates; a little of everything lets gradients pass.
    for parameter in (*model.renderer.parameters(), *model.trajectory.parameters()):
        parameter.add_(0.02 * torch.randn_like(parameter))
    keyframes = generator(clip[:, 0], clip[:, -1], noise)
    motion = Motion.of(keyframes, model.trajectory(keyframes))
    frames = model.renderer(clip[:, 0], clip[:, -1], motion, torch.tensor([0.5]))
    F.mse_loss(frames[:, 0], clip[:, 4]).backward()
    assert _missing(generator.unet) == []
    assert any(p.grad.abs().max() > 0 for p in generator.unet.parameters())
    assert all(p.grad is None for p in model.renderer.parameters())


def test_a_few_steps_lower_the_latent_loss(model: rdvfi.Interpolator) -> None:
    """One-step training itself: pure noise in, the clip's own latents out."""
    clip, generator = _clip(), _generator(model)
    unet = generator.unet.requires_grad_(True)
    clean = generator.encode(clip.flatten(0, 1)).unflatten(0, clip.shape[:2]).detach()
    optimiser = torch.optim.Adam(unet.parameters(), lr=2e-3)
    losses = []
    for _ in range(8):
        made = generator.denoise(torch.randn(clean.shape), torch.ones(1), Condition(clean[:, 0], clean[:, -1]))
        loss = F.mse_loss(made, clean)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0], losses

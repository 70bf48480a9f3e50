"""Flow estimators that are borrowed: torchvision's RAFT, and matching of any timm features."""

import importlib
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

import rdvfi
import toy
from rdvfi.interfaces import Reads
from rdvfi.motion.flow.raft import Raft
from rdvfi.motion.flow.timm_pyramid import TimmPyramid, align, nearest_neighbours
from rdvfi.registry import backbones, bases, flows, renderers, trajectories

NETWORKS = ("resnet18", "convnext_atto", "efficientnet_b0")


def texture(h: int, w: int, channels: int = 3, *, seed: int = 0) -> Float[Tensor, "1 c h w"]:
    """Noise of several octaves, coarse ones stronger, as pictures are."""
    draw = torch.Generator().manual_seed(seed)
    octaves = [
        o * F.interpolate(torch.randn(1, channels, h // o + 2, w // o + 2, generator=draw), (h, w))
        for o in (2, 4, 8, 16)
    ]
    return F.avg_pool2d(sum(octaves), 3, 1, 1).div(40).add(0.5).clamp(0, 1)  # pyright: ignore


def shifted(dx: int, dy: int, h: int, w: int, channels: int = 3) -> tuple[Tensor, Tensor]:
    """Two windows on one texture: what is at x in the first is at x + (dx, dy) in the second."""
    large = texture(h + 64, w + 64, channels)
    return large[..., 32 : 32 + h, 32 : 32 + w], large[..., 32 - dy : 32 - dy + h, 32 - dx : 32 - dx + w]


def _error(found: Tensor, dx: float, dy: float, border: int) -> Tensor:
    inside = found[..., border:-border, border:-border]
    return (inside - torch.tensor([dx, dy])[:, None, None]).norm(dim=1)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (1, 0), (-3, 2), (5, 7), (-11, 6)])
@torch.no_grad()
def test_random_features_find_whole_shifts_exactly(network: str, dx: int, dy: int) -> None:
    flow = flows.create("timm-pyramid", network=network, pretrained=False)
    error = _error(flow(*shifted(dx, dy, 96, 128)), dx, dy, 16)
    assert error.median() < 1e-3
    assert error.quantile(0.95) < 0.02


@torch.no_grad()
def test_latents_are_matched_as_pixels_are() -> None:
    flow = flows.create("timm-pyramid", pretrained=False, reads=Reads.LATENTS, latent_channels=6)
    assert flow.reads is Reads.LATENTS
    assert flow.latent_channels == 6
    error = _error(flow(*shifted(2, -1, 32, 56, channels=6)), 2, -1, 6)
    assert error.median() < 1e-3
    assert error.quantile(0.95) < 0.02


@torch.no_grad()
def test_a_fresh_correction_changes_nothing_and_can_be_learned() -> None:
    torch.manual_seed(1)
    plain = flows.create("timm-pyramid", pretrained=False)
    torch.manual_seed(1)
    refined = flows.create("timm-pyramid", pretrained=False, refine=8)
    pair = shifted(3, 1, 48, 64)
    assert torch.equal(plain(*pair), refined(*pair))
    assert isinstance(refined, TimmPyramid)
    assert refined.refine is not None
    with torch.enable_grad():
        refined(*shifted(3, 1, 48, 64)).abs().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in refined.refine.parameters())


@torch.no_grad()
def test_alignment_finds_fractions_of_a_pixel_and_keeps_what_is_right() -> None:
    ys, xs = torch.meshgrid(torch.arange(64.0), torch.arange(80.0), indexing="ij")

    def waves(dx: float, dy: float) -> Tensor:
        x, y = xs - dx, ys - dy
        one, two = torch.sin(0.5 * x + 0.2 * y), torch.cos(0.35 * y - 0.15 * x)
        return (one + two + torch.sin(0.3 * x) * torch.cos(0.4 * y))[None, None]

    found = align(waves(0, 0), waves(0.5, -0.3), torch.zeros(1, 2, 64, 80))
    error = _error(found, 0.5, -0.3, 8)  # less where the waves leave no texture
    assert error.median() < 0.05
    assert error.quantile(0.95) < 0.15
    source, target = shifted(2, 3, 64, 80)
    right = torch.tensor([2.0, 3.0])[:, None, None].expand(1, 2, 64, 80)
    # What enters at the border reaches a window's half width further in with each of five steps.
    assert (align(source, target, right) - right)[..., 24:-24, 24:-24].abs().max() < 1e-3


def test_nearest_neighbours_are_the_most_similar_ones_anywhere() -> None:
    near = F.normalize(torch.randn(1, 8, 6, 7), dim=1)
    far = near.roll((2, 3), dims=(2, 3))
    found = nearest_neighbours(near, far)[..., 1:3, 1:3]
    assert torch.equal(found, torch.tensor([3.0, 2.0])[:, None, None].expand(1, 2, 2, 2))


def test_a_missing_timm_network_is_named() -> None:
    with pytest.raises((RuntimeError, ValueError), match="no_such_net"):
        flows.create("timm-pyramid", network="no_such_net", pretrained=False)
    with pytest.raises(ValueError, match="radius must be 1 to 128; got 0"):
        flows.create("timm-pyramid", radius=0, pretrained=False)


@torch.no_grad()
def test_raft_reads_pixels_of_any_size() -> None:
    flow = flows.create("raft", size="SMALL", weights=None, iterations=1).eval()
    for h, w in ((16, 40), (131, 136)):
        assert flow(torch.rand(1, 3, h, w), torch.rand(1, 3, h, w)).shape == (1, 2, h, w)


@torch.no_grad()
def test_raft_gives_torchvisions_own_flow() -> None:
    importlib.import_module("rdvfi.compat").import_torchvision()
    flow = flows.create("raft", size="SMALL", weights=None, iterations=3)
    assert isinstance(flow, Raft)
    pair = shifted(1, 2, 128, 136)
    own = flow.network(*(2 * image - 1 for image in pair), num_flow_updates=3)[-1]
    assert torch.equal(flow(*pair), own)
    # Half precision would not do for its coordinates, nor batch statistics for one pair.
    assert torch.equal(flow.train().half()(*pair), own)
    assert {p.dtype for p in flow.parameters()} == {torch.float32}


def test_rafts_weights_come_from_torchs_cache_or_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"put https://\S+raft_small\S+pth at ") as missing:
        flows.create("raft", size="SMALL")
    path = Path(str(missing.value).split(" at ")[1].split(" (")[0])
    assert path.is_relative_to(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half a download")
    with pytest.raises(ValueError, match="is damaged: its SHA-256 begins"):
        flows.create("raft", size="SMALL")
    with pytest.raises(ValueError, match="weights must be 'default' or None; got 'sintel'"):
        flows.create("raft", weights="sintel")
    with pytest.raises(ValueError, match="iterations must be at least 1"):
        flows.create("raft", size="SMALL", weights=None, iterations=0)


@torch.no_grad()
def test_chained_flows_of_a_uniform_shift_are_the_shift() -> None:
    from rdvfi.interfaces import Keyframes

    large = texture(112, 144)
    images = torch.stack([large[..., 24:88, 24 - 3 * i : 104 - 3 * i] for i in range(5)], dim=1)
    keyframes = Keyframes(torch.zeros(1, 5, 4, 8, 10), torch.linspace(0, 1, 5), images)
    flow = flows.create("timm-pyramid", pretrained=False)
    model = trajectories.create("chained", flow=flow, basis=bases.create("cubic"))
    first, last = model(keyframes).at(torch.tensor([0.0, 0.3, 0.5, 1.0]))
    assert first.shape == (1, 4, 2, 32, 40)
    for i, time in enumerate((0.0, 0.3, 0.5, 1.0)):  # fields live on half the size
        assert (first[0, i, 0, 8:-8, 10:-10] + 6 * time).abs().median() < 0.02
        assert (last[0, i, 0, 8:-8, 10:-10] - 6 * (1 - time)).abs().median() < 0.02


@torch.no_grad()
def test_a_model_of_pretrained_parts_has_nothing_untrained() -> None:
    with toy.registered():
        flow = flows.create("raft", size="SMALL", weights=None, iterations=1)
        trajectory = trajectories.create("chained", flow=flow, basis=bases.create("linear"))
        model = rdvfi.Interpolator(
            backbones.create("toy"), trajectory, renderers.create("warp"), motion_area=64 * 64
        ).eval()
        assert model.untrained_parts() == ["backbone", "trajectory"]
        flow.pretrained = True
        assert model.untrained_parts() == ["backbone"]
        pair = toy.textured(1, 64, 64), toy.textured(1, 64, 64, seed=1)
        assert model(*pair, [0.5]).shape == (1, 1, 3, 64, 64)

"""Losses: least for the truth, blind to what they should not see, clear on what they lack."""

import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rdvfi.backbones.diffusion import VariancePreserving
from rdvfi.compat import import_torchvision
from rdvfi.training.losses.denoising import sample_noise_levels
from rdvfi.training.losses.evidence import FlowPair, FramePair, GeneratorSampler, MapSupervision, WarpMaps
from rdvfi.training.losses.flow_losses import flow_loss, matching_loss
from rdvfi.training.losses.loss_registry import Evidence, WeightedLosses, losses
from rdvfi.training.objectives.training_step import TrainingStep


def _encode(images: Tensor) -> Tensor:
    return F.avg_pool2d(images, 4) - 0.5


def _frames(made: Tensor, truth: Tensor) -> Evidence:
    return Evidence(0.0, frames=FramePair(made, truth, _encode))


def _textured(seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return F.interpolate(torch.rand(2, 3, 6, 8, generator=draw), (24, 32), mode="bicubic").clamp(0, 1)


@pytest.mark.parametrize("name", ["l1", "l2", "psnr", "edges", "census", "features"])
def test_losses_of_frames_are_least_for_the_truth(name: str) -> None:
    loss, truth = losses.create(name), _textured()
    noisy = (truth + 0.2 * torch.randn_like(truth)).requires_grad_()
    assert float(loss(_frames(truth, truth))) == pytest.approx(0.0, abs=1e-6)
    found = loss(_frames(noisy, truth))
    assert found > 1e-6
    found.backward()
    assert noisy.grad is not None
    assert bool(noisy.grad.any())


def test_census_and_edges_ignore_a_brightness_offset() -> None:
    truth = 0.2 + 0.5 * _textured()
    brighter = _frames(truth + 0.1, truth)
    assert float(losses.create("census")(brighter)) == pytest.approx(0.0, abs=1e-5)
    assert float(losses.create("edges")(brighter)) == pytest.approx(0.0, abs=1e-6)
    assert float(losses.create("l1")(brighter)) == pytest.approx(0.1, abs=1e-5)


def test_occluded_points_count_less() -> None:
    flow, seen = torch.randn(2, 3, 2, 4, 5), torch.ones(2, 3, 4, 5)
    least = flow_loss(flow, flow, seen)
    assert least < 0.1  # a robust distance is rounded at zero
    seen[..., :2] = 0
    off_where_occluded, off_where_seen = flow.clone(), flow.clone()
    off_where_occluded[..., 0] += 1
    off_where_seen[..., 4] += 1
    occluded, visible = (flow_loss(off, flow, seen) for off in (off_where_occluded, off_where_seen))
    assert least < occluded < visible
    pair = FlowPair(flow, flow, seen)
    assert losses.create("flow")(Evidence(0.0, flow=pair)) == least
    assert losses.create("adjacent")(Evidence(0.0, adjacent=pair)) == least


def test_a_decibel_counts_the_same_at_every_relevant_error() -> None:
    truth, loss = _textured(), losses.create("psnr")
    noise = torch.randn_like(truth)

    def at(decibels: float) -> float:
        size = 10 ** (-decibels / 20) / noise.square().mean((1, 2, 3), keepdim=True).sqrt()
        return float(loss(_frames(truth + size * noise, truth)))

    assert at(20) - at(21) == pytest.approx(0.2303, abs=1e-3)
    assert at(35) - at(36) == pytest.approx(0.2303, abs=0.01)
    assert at(70) - at(71) < 0.01  # 50 dB are exact enough
    one, other = truth.clone(), truth.clone()
    one[0] += 0.1
    other[0] += 0.05
    halves = [float(loss(_frames(made, truth))) for made in (one, other)]
    assert halves[0] - halves[1] == pytest.approx(0.5 * 2 * 0.6931, abs=0.01)
    with pytest.raises(ValueError, match="exact must be positive"):
        losses.create("psnr", exact=0.0)


SHIFT = 3


def _maps(flows: Tensor, mask: Tensor, *, initial: float, target: float, exact: bool = False) -> MapSupervision:
    """A texture that moves by ``SHIFT`` pixels to each side of the true frame; flows of the right
    length are 1, of none 0."""
    draw = torch.Generator().manual_seed(4)
    wide = F.interpolate(torch.rand(2, 3, 12, 16, generator=draw), (48, 64), mode="bilinear")
    truth, first, last = wide, wide.roll(-SHIFT, 3), wide.roll(SHIFT, 3)
    right = _right(truth)
    half = torch.full_like(mask, 0.5)
    return MapSupervision(
        WarpMaps(flows, mask),
        WarpMaps(initial * right, half),
        target * right,
        first,
        last,
        truth,
        target_mask=None if exact else half,
        visible=torch.ones(2, 2, 48, 64) if exact else None,
    )


def _right(like: Tensor) -> Tensor:
    right = torch.zeros(len(like), 4, *like.shape[-2:])
    right[:, 0], right[:, 2] = -SHIFT, SHIFT
    return right


@pytest.mark.parametrize("exact", [False, True])
def test_imitation_is_zero_at_the_target_maps(exact: bool) -> None:
    loss, mask = losses.create("imitation"), torch.full((2, 1, 48, 64), 0.5)
    right = _right(mask)
    reached = _maps(right, mask, initial=0.0, target=1.0, exact=exact)
    assert float(loss(Evidence(0.0, maps=reached))) == pytest.approx(0.0, abs=1e-6)
    flows = (0.5 * right).requires_grad_()
    short = _maps(flows, mask, initial=0.0, target=1.0, exact=exact)
    found = loss(Evidence(0.0, maps=short))
    found.backward()
    assert found > 0.01
    assert flows.grad is not None
    inner = flows.grad[..., 8:-8, 8:-8]
    assert bool((inner[:, 0] > 0).all())  # against it: towards -3
    assert bool((inner[:, 2] < 0).all())


def test_targets_with_a_higher_error_have_no_gradient() -> None:
    loss = losses.create("imitation")
    flows = _right(torch.zeros(2, 1, 48, 64)).mul_(0.5).requires_grad_()
    mask = torch.full((2, 1, 48, 64), 0.2, requires_grad=True)
    for target in (0.0, 2.0, 1.0):  # still, too far, and no target_weight than what there is
        maps = _maps(flows, mask, initial=1.0, target=target)
        loss(Evidence(0.0, maps=maps)).backward()
        assert flows.grad is not None
        assert mask.grad is not None
        inner = (..., slice(8, -8), slice(8, -8))  # at the border a roll is no shift
        assert not flows.grad[inner].any()
        assert not mask.grad[inner].any()


def test_a_teachers_blend_is_learned_and_occluded_points_are_not() -> None:
    loss, right = losses.create("imitation"), _right(torch.zeros(2, 1, 48, 64))
    mask = torch.full((2, 1, 48, 64), 0.9, requires_grad=True)
    taught = _maps(right, mask, initial=0.0, target=1.0)
    loss(Evidence(0.0, maps=taught)).backward()
    assert mask.grad is not None
    assert bool((mask.grad[..., 8:-8, 8:-8] > 0).all())  # down to a half
    flows = torch.zeros_like(right).requires_grad_()
    maps = _maps(flows, mask.detach(), initial=0.0, target=1.0, exact=True)
    assert maps.visible is not None
    maps.visible[:, 1, :, 32:] = 0.0
    loss(Evidence(0.0, maps=maps)).backward()
    assert flows.grad is not None
    assert not flows.grad[:, 2:, :, 32:].any()
    assert bool(flows.grad[:, 2, 8:-8, 8:32].any())
    assert bool(flows.grad[:, 0, 8:-8, 32:-8].any())  # the other end shows it


def test_imitation_falls_to_a_tenth() -> None:
    mask = torch.full((2, 1, 48, 64), 0.5)
    maps = _maps(torch.zeros(2, 4, 48, 64), mask, initial=0.0, target=1.0)
    loss = losses.create("imitation", until=0.5)
    whole, half, least, end = (float(loss(Evidence(share, maps=maps))) for share in (0.0, 0.25, 0.5, 1.0))
    assert [half / whole, least / whole, end / whole] == pytest.approx([0.5, 0.1, 0.1])
    with pytest.raises(ValueError, match=r"until must be in \(0, 1\]; got 0"):
        losses.create("imitation", until=0.0)


def test_only_the_nearest_sample_is_supervised() -> None:
    step, clean = TrainingStep(0, 1), torch.zeros(3, 2, 1, 4, 4)
    shift = torch.ones((), requires_grad=True)
    drawn: list[Tensor] = []

    def sample(noise: Tensor) -> Tensor:
        drawn.append(noise)
        return shift * noise

    found = losses.create("imle", draws=5)(Evidence(0.0, sampler=GeneratorSampler(sample, clean, step)))
    every = torch.stack(drawn[:5]).square().flatten(2).mean(2)
    assert float(found.detach()) == pytest.approx(float(every.min(0).values.mean()), rel=1e-5)
    found.backward()
    assert shift.grad is not None
    assert len(drawn) == 6


def test_the_noise_level_rises_to_pure_noise() -> None:
    lowest = [float(sample_noise_levels(TrainingStep(s, 100), 500).min()) for s in (0, 30, 60, 99)]
    assert lowest[0] < 0.35
    assert lowest[0] < lowest[1] < lowest[2]
    assert lowest[2:] == [1.0, 1.0]
    assert float(sample_noise_levels(TrainingStep(0, 100), 500, low=0.02).min()) < 0.05
    clean, noise = torch.randn(2, 1, 7, 4, 5, 6)
    assert torch.isfinite(VariancePreserving().velocity(clean, noise, torch.ones(1))).all()


def test_weights_choose_and_scale() -> None:
    truth = _textured()
    evidence = _frames(truth + 0.1, truth)
    found = WeightedLosses({"l1": 2.0, "l2": 0.0, "theta": 1.0})(evidence)
    assert found.keys() == {"l1"}  # l2 weighs nothing, theta has no evidence
    assert float(found["l1"]) == pytest.approx(0.2, abs=1e-5)
    with pytest.raises(ValueError, match="every loss has weight zero"):
        WeightedLosses({"l1": 0.0})
    with pytest.raises(ValueError, match=r"losses\.l1 must not be negative; got -1"):
        WeightedLosses({"l1": -1.0})


def test_lpips_names_missing_weights_and_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import_torchvision()
    pytest.importorskip("lpips")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"alexnet-owt-7be5be79\.pth.*load_state_dict_from"):
        losses.create("lpips")
    with pytest.raises(ValueError, match="no perceptual network 'resnet'"):
        losses.create("lpips", network="resnet")
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(ModuleNotFoundError, match=r"'lpips', which is not installed; pip install 'rdvfi\[train\]'"):
        losses.create("lpips")


def test_lpips_is_the_weighted_distance_of_unit_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand, on torchvision's smallest network with random weights and the package's own heads."""
    models = import_torchvision().models
    lpips = pytest.importorskip("lpips")
    torch.manual_seed(0)
    network = models.squeezenet1_1(weights=None).eval()
    (tmp_path / "checkpoints").mkdir()
    torch.save(network.state_dict(), tmp_path / "checkpoints/squeezenet1_1-b8a52dc0.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path.parent))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    a, b = F.interpolate(_textured(0), (70, 90)), F.interpolate(_textured(1), (70, 90))
    loss = losses.create("lpips", network="squeeze")
    assert float(loss(_frames(a, a))) == 0.0

    heads = Path(lpips.__file__).parent / "weights/v0.1/squeeze.pth"
    weights = [head.flatten() for head in torch.load(heads, map_location="cpu", weights_only=True).values()]
    ends, expected = (2, 5, 8, 10, 11, 12, 13), 0.0
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    x, y = ((2 * image - 1 - shift[:, None, None]) / scale[:, None, None] for image in (a, b))
    with torch.no_grad():
        for number, layer in enumerate(network.features, start=1):
            x, y = layer(x), layer(y)
            if number in ends:
                apart = (F.normalize(x, dim=1) - F.normalize(y, dim=1)).square()
                weight = weights[ends.index(number)][:, None, None]
                expected += float((apart * weight).sum(1).mean())
    assert float(loss(_frames(a, b))) == pytest.approx(expected, rel=1e-3)
    made = a.clone().requires_grad_()
    loss(_frames(made, b)).backward()
    assert made.grad is not None
    assert made.grad.isfinite().all()
    assert not any(
        parameter.requires_grad
        for parameter in WeightedLosses({"lpips": 1}, {"lpips": {"network": "squeeze"}}).parameters()
    )


def test_the_matching_loss_is_a_cross_entropy_over_target_cells() -> None:
    h, w = 3, 4
    exact = torch.zeros(1, 2, h, w)
    exact[:, 0] = 1.0  # the last column leaves the picture and does not count
    seen = torch.ones(1, h, w)
    unsure = torch.zeros(1, h * w, h * w)
    expected = torch.tensor(float(h * w)).log()
    torch.testing.assert_close(matching_loss(unsure, exact, seen), expected)
    sure = torch.full((1, h * w, h * w), -50.0)
    cells = torch.arange(h * w)
    sure[0, cells, (cells + 1) % (h * w)] = 50.0
    assert matching_loss(sure, exact, seen) < 1e-5
    assert matching_loss(sure, -exact, seen) > 50.0
    # Between two cells, both are equally right.
    exact[:, 0] = 0.5
    two = torch.full((1, h * w, h * w), -50.0)
    two[0, cells, cells] = two[0, cells, (cells + 1) % (h * w)] = 0.0
    seen[..., -1] = 0.0
    torch.testing.assert_close(matching_loss(two, exact, seen), torch.tensor(2.0).log())
    assert matching_loss(two, exact, torch.zeros_like(seen)) == 0.0

"""Kernels that work on maps of the small grid, against their definitions in float64."""

import pytest
import torch

import kernels
from rdvfi.ops import activation, compositing, refinement
from rdvfi.ops.inference import KERNELS
from rdvfi.render import base


@pytest.fixture(autouse=True)
def _wide_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels.wide_tiles(monkeypatch)


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)).to(kernels.DEVICE)


@pytest.mark.parametrize("border", [0, 1])
@pytest.mark.parametrize("dtype", kernels.DTYPES)
def test_features_between_convolutions(dtype: torch.dtype, border: int) -> None:
    x, added = (4.0 * _random(2, 3, 5, 7, seed=seed).to(dtype) - 2.0 for seed in (0, 1))
    bias = _random(3, seed=2).to(dtype)
    layout = added.contiguous(memory_format=torch.channels_last)
    for arguments in ((x, None, None), (x, bias, layout)):
        got = kernels.load("activation").activated(*arguments, border)
        exact = [None if a is None else a.cpu().double() for a in arguments]
        for mine, expected in zip(got, activation.activate.reference(*exact, border), strict=True):  # pyright: ignore
            assert mine.is_contiguous(memory_format=torch.channels_last)
            kernels.assert_close(mine, expected, tolerance=2 * kernels.ROUNDING[dtype])


def _new_frames(size: tuple[int, int]) -> list[torch.Tensor]:
    """Two frames of one sample, three of each: end frames, state, mask, times."""
    images = [_random(2, 3, *size, seed=seed) for seed in (0, 1)]
    state = torch.cat((8.0 * _random(6, 4, *size, seed=2) - 4.0, _random(6, 4, *size, seed=3) - 0.5), dim=1)
    return [*images, state, _random(6, 1, *size, seed=4), torch.linspace(0, 1, 6, device=kernels.DEVICE)]


@pytest.mark.parametrize("lit", [False, True])
def test_what_a_stage_reads(lit: bool) -> None:
    arguments = [*_new_frames((9, 17)), _random(6, 3, 2, 3, seed=5) - 0.5 if lit else None]
    got = kernels.load("refinement").stage_inputs(*arguments)
    exact = [None if x is None else x.cpu().double() for x in arguments]
    kernels.assert_close(got, refinement.stage_inputs.reference(*exact), tolerance=1e-5)  # pyright: ignore


@pytest.mark.parametrize(("scale", "last"), [(4, False), (2, True)])
def test_what_a_stage_changes(scale: int, last: bool) -> None:
    _, _, state, mask, _ = _new_frames((8, 12))
    answer = _random(6, 32, 8 // scale, 12 // scale, seed=6).to(torch.float16) - 0.5
    arguments = [state, answer.contiguous(memory_format=torch.channels_last), _random(6, 1, 8, 12, seed=7), mask]
    got = kernels.load("refinement").stage_step(*arguments, scale, last)
    exact = [x.cpu().double() for x in arguments]
    kernels.assert_close(got, refinement.stage_step.reference(*exact, scale, last), tolerance=1e-5)  # pyright: ignore


@pytest.mark.parametrize(("scale", "latents"), [(8, (4, 7)), (4, (3, 3)), (2, None)])
def test_how_a_stage_is_entered(scale: int, latents: tuple[int, int] | None) -> None:
    maps = _random(1, 2, 16, 24)
    more = None if latents is None else _random(1, 1, *latents, seed=1)
    got = kernels.load("refinement").stage_entry(maps, more, scale, 1, torch.float32)
    exact = (maps.cpu().double(), None if more is None else more.cpu().double())
    expected = refinement.stage_entry.reference(*exact, scale, 1, torch.float64)  # pyright: ignore
    kernels.assert_close(got, expected, tolerance=1e-5)


def test_shares_and_room() -> None:
    confidence, times = _random(2, 2, 2, 5, 7), torch.tensor([0.25, 1.0], device=kernels.DEVICE)
    got = kernels.load("adaptation").blend_shares(confidence, times, 0.15)
    expected = base.blend_shares.reference(confidence.cpu().double(), times.cpu().double(), 0.15)  # pyright: ignore
    kernels.assert_close(got, expected, tolerance=1e-5)
    maps = 0.1 * _random(2, 3, 6, 9, seed=1)
    got = kernels.load("refinement").correction_room(maps[:, :1], maps[:, 2:], 0.03)
    exact = maps.cpu().double()
    expected = refinement.correction_room.reference(exact[:, :1], exact[:, 2:], 0.03)  # pyright: ignore
    kernels.assert_close(got, expected, tolerance=1e-5)


@pytest.mark.parametrize("lit", [False, True])
def test_maps_adapted_to_a_pair(lit: bool) -> None:
    size = (9, 11)
    small0 = _random(2, 3, *size)
    small1 = torch.where(_random(2, 1, *size, seed=1) < 0.5, small0, _random(2, 3, *size, seed=2))
    gain = 0.4 * _random(2, 1, *size, seed=3) if lit else None
    flows = [0.9 * _random(2, 3, 2, *size, seed=seed) - 0.45 for seed in (4, 5)]
    rest = [_random(2, 3, c, *size, seed=6 + c) for c in (1, 3)]
    times, weight = torch.tensor([0.1, 0.5, 0.9]), torch.tensor([0.4, 1.0])
    arguments = [small0, small1, gain, *flows, *rest, *(x.to(kernels.DEVICE) for x in (times, weight))]
    got = kernels.load("adaptation").adapted_maps(*arguments, **KERNELS["adapted_maps"].settings)
    exact = [None if x is None else x.cpu().double() for x in arguments]
    expected = base.adapted_maps.reference(*exact)  # pyright: ignore
    assert 0.02 < float((got[:, :, 0] == 0).float().mean()) < 0.98  # some rest, some do not
    kernels.assert_close(got, expected, tolerance=1e-4)


def _overlaid(dtype: torch.dtype) -> list[torch.Tensor]:
    img0, img1 = _random(2, 3, 13, 70), _random(2, 3, 13, 70, seed=1)
    img1[:, :, 4:9, 20:40] = img0[:, :, 4:9, 20:40]
    mask, near = torch.zeros(2, 1, 7, 30, device=kernels.DEVICE), torch.zeros(2, 1, 7, 30, device=kernels.DEVICE)
    mask[..., 2:4, 9:15], near[..., 1:6, 7:19] = 1.0, 1.0
    return [img0.to(dtype), img1.to(dtype), mask, near, _random(2, 2, 3, 7, 30, seed=2)]


@pytest.mark.parametrize("dtype", kernels.DTYPES)
def test_overlays_and_bars(dtype: torch.dtype) -> None:
    module, pair = kernels.load("compositing"), _overlaid(dtype)
    exact = [x.cpu().double() for x in pair]
    lifted = module.lifted_overlay(*pair)
    for got, expected in zip(lifted, compositing.remove_overlay.reference(*exact), strict=True):  # pyright: ignore
        assert got.dtype == dtype
        kernels.assert_close(got, expected, tolerance=5 * kernels.ROUNDING[dtype])
    rows, columns = (torch.tensor(x, device=kernels.DEVICE) for x in ([[0, 13], [2, 9]], [[5, 70], [0, 70]]))
    frames, times = _random(2, 3, 3, 13, 70, seed=3).to(dtype), torch.tensor([0.2, 0.5, 0.8], device=kernels.DEVICE)
    for over, bars in ((list(lifted), [rows, columns]), ([], [rows, columns]), (list(lifted), [])):
        got = module.composited(frames, *pair[:2], times, over, bars)
        wide = [[x.cpu().double() for x in part] for part in ([frames, *pair[:2], times], over)]
        expected = compositing.restore_overlay_and_bars.reference(*wide[0], wide[1], [x.cpu() for x in bars])  # pyright: ignore
        kernels.assert_close(got, expected, tolerance=5 * kernels.ROUNDING[dtype])

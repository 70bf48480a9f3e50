"""The kernels of bars, overlays and light against their references."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import kernels
from rdvfi.content import bars, illumination, overlay, partial_cuts
from rdvfi.content.cpu_shortcuts import fixed_shapes
from rdvfi.motion.flow import global_local
from rdvfi.ops.inference import KERNELS

bar_kernels = kernels.load("bars")
module = kernels.load("overlay")
plate_kernels = kernels.load("plates")
lights = kernels.load("light")


@pytest.fixture(autouse=True)
def _wide_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels.wide_tiles(monkeypatch)


def _pictures(h: int, w: int) -> tuple[Tensor, Tensor]:
    """A texture that moves by (3, 1), two pairs."""
    draw = torch.Generator().manual_seed(h)
    wide = F.interpolate(torch.rand(2, 3, h // 3, w // 3, generator=draw), (h + 8, w + 8), mode="bilinear")
    return wide[..., 4 : h + 4, 4 : w + 4].clone(), wide[..., 3 : h + 3, 1 : w + 1].clone()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_bars_agree_with_the_reference(dtype: torch.dtype) -> None:
    first, last = (x.to(dtype).contiguous(memory_format=torch.channels_last) for x in _pictures(37, 41))
    for image in (first, last):
        image[0, :, :5] = image[0, :, 30:] = 0.05
        image[1, :, :, 38:] = 0.0
        image[1, :, :, :9] = 0.9
    last[1, :, 3:6, 4:8] = first[1, :, 3:6, 4:8] = 0.3  # a text in the bar
    given = [x.to(kernels.DEVICE) for x in (first, last)]
    found = bar_kernels.bars(*given, **KERNELS["bars"].settings).cpu()
    assert found.tolist() == [[5, 30, 0, 41], [0, 37, 9, 38]]
    assert torch.equal(found, bars._bars_reference(first.float(), last.float()))
    filled = bar_kernels.fill_bars(given[0], found.to(kernels.DEVICE)).cpu()
    assert torch.equal(filled, bars._fill_reference(first, found))


def test_static_bars_agree_with_the_reference() -> None:
    first, last = _pictures(18, 26)
    images = torch.cat((first, last))
    images[::2, :, :3] = images[::2, :, 16:] = images[1::2, :, :, :4] = 0.02
    got = bar_kernels.static_bars(images.to(kernels.DEVICE), **KERNELS["static_bars"].settings).cpu()
    assert torch.equal(got, global_local._bars_reference(images))
    assert 0.0 < got.mean() < 0.5


def test_overlays_agree_with_the_reference() -> None:
    h, w = 50, 90
    first, last = _pictures(h, w)
    for image in (first, last):
        image[0, :, 20:28, 30:50] = torch.tensor([1.0, 0.9, 0.1])[:, None, None]
        image[0, :, 20:28:2, 30:50] *= 0.2
    onward = torch.tensor([3.0, 1.0])[None, :, None, None].expand(2, 2, h, w).clone()
    onward[0, :, 20:28, 30:50] = 0.0
    arguments = (first, last, onward, -onward)
    with fixed_shapes():
        mask, motions = overlay._reference(*arguments)
    given = [x.to(kernels.DEVICE) for x in arguments]
    found, moved = (x.cpu() for x in module.overlay(*given, **KERNELS["overlay"].settings))
    assert mask[0].mean() > 0.02
    assert not mask[1].any()
    assert (found != mask).float().mean() < 0.002
    torch.testing.assert_close(moved, motions, rtol=0, atol=1e-3)
    plates = overlay._plates_reference(first, last, mask, motions[:, 0], motions[:, 1])
    given = [x.to(kernels.DEVICE) for x in (first, last, mask, motions[:, 0], motions[:, 1])]
    got = plate_kernels.plates(*given, **KERNELS["plates"].settings).cpu()
    assert ((got - plates).abs() > 1e-4).float().mean() < 0.002


def test_light_and_changes_agree_with_the_reference() -> None:
    h, w = 20, 31
    first, last = _pictures(h, w)
    last[0] *= torch.linspace(0.5, 1.0, w)  # a lamp
    trust = torch.rand(2, 1, h, w, generator=torch.Generator().manual_seed(1))
    arguments = [x.to(kernels.DEVICE) for x in (first, last, trust)]
    gain = lights.light_gain(*arguments, 7, **KERNELS["light_gain"].settings).cpu()
    expected = illumination._reference(first, last, trust, 7)
    torch.testing.assert_close(gain, expected, rtol=1e-3, atol=1e-4)
    assert expected[0].abs().max() > 0.1
    pair = (first, last, first.roll(1, -1), last.roll(-1, -1), expected, trust)
    got = lights.explained(*(x.to(kernels.DEVICE) for x in pair), **KERNELS["explained"].settings).cpu()
    torch.testing.assert_close(got, partial_cuts._reference(*pair), rtol=1e-3, atol=1e-4)

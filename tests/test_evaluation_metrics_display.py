"""FLIP, ColorVideoVDP and VMAF against independent implementations.

FLIP is written out from its paper. ColorVideoVDP is compared with fcvvdp, a version in C
(https://github.com/halidecx/fcvvdp), and VMAF with the package ``vmaf-torch``.
"""

import ctypes
import os

import numpy as np
import pytest
import torch
from scipy import ndimage

from rdvfi.compat import import_torchvision
from rdvfi.evaluation.metrics import create_metrics
from rdvfi.evaluation.metrics.metric import Metric, create_metric
from window_results import moving_frames, to_uint8, window_result

TO_XYZ = np.array([0.4124564, 0.3575761, 0.1804375, 0.2126729, 0.7151522, 0.0721750, 0.0193339, 0.1191920, 0.9503041])
TO_XYZ = TO_XYZ.reshape(3, 3)
"""Of linear sRGB."""
WHITE = TO_XYZ.sum(1)


def lab(xyz: np.ndarray) -> np.ndarray:
    """CIELAB, (3, h, w), of XYZ, with the chroma scaled by the lightness (Hunt)."""
    f = xyz / WHITE[:, None, None]
    f = np.where(f > (6 / 29) ** 3, np.cbrt(f), f / (3 * (6 / 29) ** 2) + 4 / 29)
    light = 116 * f[1] - 16
    return np.stack((light, 0.01 * light * 500 * (f[0] - f[1]), 0.01 * light * 200 * (f[1] - f[2])))


def hyab(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Distance in lightness plus distance in chroma."""
    away = one - other
    return np.abs(away[0]) + np.hypot(away[1], away[2])


def flip(frame: torch.Tensor, true: torch.Tensor, ppd: float = 67.0) -> float:
    """FLIP (Andersson et al., 2020): equations 1 to 17 of the paper, at ``ppd`` pixels per degree."""
    pictures = [x.double().numpy() for x in (frame, true)]
    light = [np.where(x > 0.04045, ((x + 0.055) / 1.055) ** 2.4, x / 12.92) for x in pictures]
    opponent = []
    for picture in light:
        x, y, z = np.tensordot(TO_XYZ, picture, 1) / WHITE[:, None, None]
        opponent.append(np.stack((116 * y - 16, 500 * (x - y), 200 * (y - z))))

    radius = int(np.ceil(3 * np.sqrt(0.04 / (2 * np.pi**2)) * ppd))
    distance = np.hypot(*np.mgrid[-radius : radius + 1, -radius : radius + 1]) / ppd
    seen = []
    for picture in opponent:
        channels = []
        for plane, terms in zip(picture, ([(1, 0.0047)], [(1, 0.0053)], [(34.1, 0.04), (13.5, 0.025)]), strict=True):
            kernel = sum(a * np.sqrt(np.pi / b) * np.exp(-((np.pi * distance) ** 2) / b) for a, b in terms)
            channels.append(ndimage.convolve(plane, kernel / kernel.sum(), mode="nearest"))
        y = (channels[0] + 16) / 116
        xyz = np.stack((y + channels[1] / 500, y, y - channels[2] / 200)) * WHITE[:, None, None]
        rgb = np.tensordot(np.linalg.inv(TO_XYZ), xyz, 1).clip(0, 1)
        seen.append(lab(np.tensordot(TO_XYZ, rgb, 1)))
    green, blue = (lab(TO_XYZ[:, i, None, None]) for i in (1, 2))
    greatest, colour = hyab(green, blue) ** 0.7, hyab(*seen) ** 0.7
    knee = 0.4 * greatest
    colour = np.where(colour < knee, 0.95 / knee * colour, 0.95 + (colour - knee) / (greatest - knee) * 0.05)

    spread = 0.5 * 0.082 * ppd
    reach = np.arange(-int(np.ceil(3 * spread)), int(np.ceil(3 * spread)) + 1)
    bell = np.exp(-(reach**2) / (2 * spread**2))
    edge, point = -reach * bell, (reach**2 / spread**2 - 1) * bell
    features = []
    for kernel in (edge, point):
        kernel = kernel / np.where(kernel > 0, kernel[kernel > 0].sum(), -kernel[kernel < 0].sum())
        smooth, found = bell / bell.sum(), []
        for picture in opponent:
            grey = (picture[0] + 16) / 116
            along = [
                ndimage.convolve1d(ndimage.convolve1d(grey, kernel, a, mode="nearest"), smooth, 1 - a, mode="nearest")
                for a in (0, 1)
            ]
            found.append(np.hypot(*along))
        features.append(np.abs(found[0] - found[1]))
    return float((colour ** (1 - np.sqrt(np.maximum(*features) / np.sqrt(2)))).mean())


@pytest.mark.parametrize("noise", [0.02, 0.15])
def test_flip_equals_its_formula(noise: float) -> None:
    result = window_result(moving_frames(), noise)
    expected = [flip(frame, true) for frame, true in zip(result.frames, result.truth, strict=True)]
    assert create_metric("flip").measure(result).values == pytest.approx(expected, abs=1e-4)
    assert create_metric("flip").measure(window_result(moving_frames(), 0.0)).values == pytest.approx(
        [0.0, 0.0], abs=1e-6
    )


FCVVDP = {(0, 0.05): 8.82162, (1, 0.02): 9.77498, (2, 0.05): 9.00635}
"""JOD of 24 frames that move by so many pixels a frame, with noise, by fcvvdp 0.3.3 (commit 40767a7)."""


class _Picture(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in ("width", "height", "stride")]
    _fields_ += [("data", ctypes.c_void_p), ("format", ctypes.c_int), ("colours", ctypes.c_int)]


class _Result(ctypes.Structure):
    _fields_ = [("jod", ctypes.c_double), ("quality", ctypes.c_double)]


def fcvvdp(sequence: np.ndarray, true: np.ndarray) -> float:
    """What fcvvdp gives; RDVFI_FCVVDP names the library, built from the three C files of its src as libcvvdp.so."""
    library, context, result = ctypes.CDLL(os.environ["RDVFI_FCVVDP"]), ctypes.c_void_p(), _Result()
    _, h, w, _ = true.shape
    assert library.cvvdp_create(w, h, ctypes.c_float(30.0), 0, 1, None, ctypes.byref(context)) == 0
    for result in zip(true, sequence, strict=True):
        one, other = (_Picture(w, h, 3 * w, frame.ctypes.data, 1, 0) for frame in result)
        assert library.cvvdp_process_frame(context, *map(ctypes.byref, (one, other, result))) == 0
    library.cvvdp_destroy(context)
    return result.jod


@pytest.mark.parametrize(("step", "noise"), FCVVDP)
def test_colorvideovdp_agrees_with_fcvvdp(step: int, noise: float) -> None:
    """For mild damage; where it is strong the two versions differ by more than a JOD."""
    result = window_result(moving_frames(24, size=(96, 128), step=step), noise)
    assert create_metric("cvvdp").measure(result).values == pytest.approx([FCVVDP[step, noise]], abs=0.15)
    if "RDVFI_FCVVDP" in os.environ:
        assert fcvvdp(*map(to_uint8, result.sequences)) == pytest.approx(FCVVDP[step, noise], abs=1e-3)


def test_colorvideovdp_equals_the_package_on_bytes() -> None:
    import_torchvision()
    import pycvvdp

    result, metric = window_result(moving_frames()), create_metric("cvvdp")
    own = pycvvdp.cvvdp(display_name="standard_fhd", quiet=True, device=torch.device("cpu"))
    expected, _ = own.predict(*map(to_uint8, result.sequences), dim_order="FHWC", frames_per_second=30)
    assert metric.measure(result).values == pytest.approx([float(expected)], abs=0.01)
    (same,) = metric.measure(window_result(moving_frames(), 0.0)).values
    (worse,) = metric.measure(window_result(moving_frames(), 0.2)).values
    assert same == pytest.approx(10.0, abs=0.01)
    assert worse < float(expected) < same


@pytest.fixture
def vmaf() -> Metric:
    found, missing = create_metrics(["vmaf"])
    if missing:
        assert "pip install 'rdvfi[vmaf]'" in missing["vmaf"]
        pytest.skip(missing["vmaf"])
    return found["vmaf"]


@pytest.mark.parametrize(("count", "noise"), [(4, 0.05), (8, 0.2)])
def test_vmaf_equals_vmaf_torch(count: int, noise: float, vmaf: Metric) -> None:
    """On luma of BT.709 in the range of video, rounded, of the sequences with both inputs."""
    package = pytest.importorskip("vmaf_torch", reason="the package vmaf-torch is not installed")
    reference = package.VMAF(clip_score=True)
    result = window_result(moving_frames(count, size=(128, 160)), noise)
    frame_luma, true_luma = (
        torch.from_numpy(np.round(16 + to_uint8(s) @ (np.array([0.2126, 0.7152, 0.0722]) * 219 / 255)))[:, None].float()
        for s in result.sequences
    )
    with torch.no_grad():
        expected = reference(true_luma, frame_luma)[1:-1, 0]
    assert vmaf.measure(result).values == pytest.approx(expected.tolist(), abs=0.4)


def test_vmaf_orders_damage(vmaf: Metric) -> None:
    pairs = [window_result(moving_frames(size=(128, 160)), noise) for noise in (0.0, 0.05, 0.2)]
    same, mild, strong = (np.mean(vmaf.measure(result).values) for result in pairs)
    assert same > 90.0
    assert same > mild > strong


def test_without_an_ffmpeg_that_has_vmaf_the_metric_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RDVFI_FFMPEG", "/nowhere/ffmpeg")
    with pytest.raises(ImportError, match="libvmaf; /nowhere/ffmpeg cannot be run: No such file"):
        create_metric("vmaf")
    monkeypatch.setenv("RDVFI_FFMPEG", "true")
    with pytest.raises(ImportError, match=r"libvmaf; true lacks it \(pip install 'rdvfi\[vmaf\]'"):
        create_metric("vmaf")

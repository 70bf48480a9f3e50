"""MS-SSIM, FSIM, VIF and GMSD against their formulae, written out in NumPy and SciPy."""

import numpy as np
import pytest
from scipy import ndimage

from rdvfi.evaluation.metrics.metric import create_metric
from window_results import luma, moving_frames, window_result


def test_gmsd_equals_its_formula() -> None:
    """Prewitt gradients of the luma at half size, c = 170 / 255^2 (Xue et al., section II)."""
    result, values = window_result(moving_frames()), []
    for frame, true in zip(result.frames, result.truth, strict=True):
        small = [ndimage.uniform_filter(luma(x), 2, mode="constant", origin=-1)[::2, ::2] for x in (frame, true)]
        kernel = np.array([[1, 0, -1]] * 3) / 3
        sizes = [
            np.hypot(ndimage.convolve(s, kernel, mode="constant"), ndimage.convolve(s, kernel.T, mode="constant"))
            for s in small
        ]
        c = 170 / 255**2
        similarity = (2 * sizes[0] * sizes[1] + c) / (sizes[0] ** 2 + sizes[1] ** 2 + c)
        values.append(similarity.std())
    assert create_metric("gmsd").measure(result).values == pytest.approx(values, abs=0.01)


def test_ms_ssim_equals_its_formula() -> None:
    result, values = window_result(moving_frames(3, size=(176, 192))), []
    window = np.outer(*[np.exp(-0.5 * ((np.arange(11) - 5) / 1.5) ** 2)] * 2)
    window /= window.sum()
    for channel in range(3):
        x, y, factors = result.frames[0, channel].double().numpy(), result.truth[0, channel].double().numpy(), []
        for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
            if scale:
                x, y = (v[: len(v) // 2 * 2, : v.shape[1] // 2 * 2] for v in (x, y))
                x, y = ((v[::2, ::2] + v[1::2, ::2] + v[::2, 1::2] + v[1::2, 1::2]) / 4 for v in (x, y))

            def smooth(v: np.ndarray) -> np.ndarray:
                return ndimage.convolve(v, window)[5:-5, 5:-5]

            mx, my = smooth(x), smooth(y)
            vx, vy, both = smooth(x * x) - mx**2, smooth(y * y) - my**2, smooth(x * y) - mx * my
            structure = (2 * both + 0.03**2) / (vx + vy + 0.03**2)
            luminance = (2 * mx * my + 0.01**2) / (mx**2 + my**2 + 0.01**2)
            factors.append((structure if scale < 4 else structure * luminance).mean() ** weight)
        values.append(np.prod(factors))
    assert create_metric("ms-ssim").measure(result).values == pytest.approx([np.mean(values)], abs=2e-3)


def test_vif_equals_its_formula() -> None:
    """Pixel domain, four scales, windows of 17, 9, 5 and 3 pixels, noise variance 2 (Sheikh and Bovik, 2006)."""
    result, values = window_result(moving_frames()), []
    for frame, true in zip(result.frames, result.truth, strict=True):
        x, y, kept, whole = 255 * luma(frame), 255 * luma(true), 0.0, 0.0
        for scale in range(4):
            size = 2 ** (4 - scale) + 1
            line = np.exp(-0.5 * ((np.arange(size) - size // 2) / (size / 5)) ** 2)
            window, edge = np.outer(line, line) / line.sum() ** 2, size // 2

            def smooth(v: np.ndarray, window: np.ndarray = window, edge: int = edge) -> np.ndarray:
                return ndimage.convolve(v, window)[edge:-edge, edge:-edge]

            if scale:
                x, y = smooth(x)[::2, ::2], smooth(y)[::2, ::2]
            vx, vy = smooth(x * x) - smooth(x) ** 2, smooth(y * y) - smooth(y) ** 2
            both = smooth(x * y) - smooth(x) * smooth(y)
            gain = np.where(vy > 1e-8, both / np.maximum(vy, 1e-8), 0.0)
            gain, lost = np.maximum(gain, 0.0), np.where(gain > 0.0, vx - gain * both, vx)
            kept += np.log10(1 + gain**2 * vy / (np.maximum(lost, 1e-8) + 2)).sum()
            whole += np.log10(1 + vy / 2).sum()
        values.append(kept / whole)
    assert create_metric("vif").measure(result).values == pytest.approx(values, abs=2e-3)


def phase_congruency(picture: np.ndarray) -> np.ndarray:
    """Kovesi's (Image features from phase congruency, 1999), with the constants of FSIM's section II."""
    h, w = picture.shape
    y, x = (np.fft.ifftshift(np.arange(n) - n // 2) / n for n in (h, w))
    radius, angle = np.hypot(x[None], y[:, None]), np.arctan2(-y[:, None], x[None])
    low = 1 / (1 + (radius / 0.45) ** 30)
    radius[0, 0] = 1.0
    bands = []
    for scale in range(4):
        band = low * np.exp(-(np.log(radius * 6 * 2**scale) ** 2) / (2 * np.log(0.55) ** 2))
        band[0, 0] = 0.0
        bands.append(band)
    spectrum, energy, amplitude = np.fft.fft2(picture), np.zeros((h, w)), np.zeros((h, w))
    for orientation in range(4):
        away = angle - orientation * np.pi / 4
        away = np.abs(np.arctan2(np.sin(away), np.cos(away)))
        filters = [band * np.exp(-(away**2) / (2 * (np.pi / 4 / 1.2) ** 2)) for band in bands]
        responses = [np.fft.ifft2(spectrum * each) for each in filters]
        total = sum(responses)
        mean = total / (np.abs(total) + 1e-4)
        aligned = sum(r.real * mean.real + r.imag * mean.imag for r in responses)
        across = sum(np.abs(r.real * mean.imag - r.imag * mean.real) for r in responses)
        # Noise: the median response of the finest band is that of a Rayleigh distribution.
        power = -np.median(np.abs(responses[0]) ** 2) / np.log(0.5) / (filters[0] ** 2).sum()
        kernels = np.stack([np.fft.ifft2(each).real * np.sqrt(h * w) for each in filters])
        tau = np.sqrt(power * (kernels.sum(0) ** 2).sum())
        threshold = tau * (np.sqrt(np.pi / 2) + 2 * np.sqrt(2 - np.pi / 2)) / 1.7
        energy += np.maximum(aligned - across - threshold, 0.0)
        amplitude += sum(np.abs(r) for r in responses)
    return energy / (amplitude + 1e-4)


def alike(a: np.ndarray, b: np.ndarray, constant: float) -> np.ndarray:
    """How alike two maps are, 1 where they are equal."""
    return (2 * a * b + constant) / (a * a + b * b + constant)


@pytest.mark.parametrize("size", [(64, 80), (95, 121)])
@pytest.mark.parametrize("noise", [0.02, 0.15])
def test_fsim_equals_its_formula(size: tuple[int, int], noise: float) -> None:
    """FSIMc: phase congruency and Scharr gradients of Y, and chrominance of I and Q to the power 0.03."""
    result, values = window_result(moving_frames(size=size), noise), []
    for frame, true in zip(result.frames, result.truth, strict=True):
        matrix = [[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]]
        (y0, i0, q0), (y1, i1, q1) = (np.tensordot(matrix, 255 * x.double().numpy(), 1) for x in (frame, true))
        scharr = np.outer([3, 10, 3], [1, 0, -1]) / 16
        gradients = [np.hypot(*(ndimage.convolve(y, k, mode="constant") for k in (scharr, scharr.T))) for y in (y0, y1)]
        phases = [phase_congruency(y) for y in (y0, y1)]
        chroma = np.abs(alike(i0, i1, 200) * alike(q0, q1, 200)) ** 0.03
        similar = alike(*phases, 0.85) * alike(*gradients, 160) * chroma
        values.append(np.average(similar, weights=np.maximum(*phases)))
    assert create_metric("fsim").measure(result).values == pytest.approx(values, abs=2e-3)

"""PSNR, SSIM, and gradient energy.

All are computed on frames **rounded to 8 bits** (`quantise`), as in a video file,
and averaged over the three colour channels.

* ``PSNR = -10 log10(mse)``, in dB, with a peak of 1. An exact frame would have an infinite PSNR and
  dominate the mean, so the PSNR is limited to `PSNR_CEILING`.
* ``SSIM`` of Wang et al.: Gaussian window of 11x11 pixels with sigma 1.5, population
  covariances, K = (0.01, 0.03), averaged over the positions where the window is inside the frame.
* *Gradient energy* is the mean of ``|dI/dx| + |dI/dy|``, relative to that of the true frames. Blur
  lowers it, and raises PSNR where motion is wrong, so the two should be read together.

References:
    Image quality assessment: from error visibility to structural similarity (Wang et al., 2004).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.evaluation.metrics.metric import Better, Frames, Metric, Sample, Values, WindowResult, metrics

PSNR_CEILING = 60.0
"""Upper limit of the PSNR of a frame, in dB."""

_WINDOW = 11
_SIGMA = 1.5
_C1, _C2 = 0.01**2, 0.03**2


def quantise(frames: Frames) -> Frames:
    """Frames clamped to [0, 1] and rounded to multiples of 1/255, in float32."""
    return frames.float().clamp(0.0, 1.0).mul(255.0).round().div(255.0)


def psnr(frames: Frames, truth: Frames, *, ceiling: float = PSNR_CEILING) -> Values:
    """Peak signal-to-noise ratio of each frame in dB, at most ``ceiling``."""
    error = (frames - truth).square().mean(dim=(1, 2, 3))
    return (-10.0 * error.log10()).clamp(max=ceiling)


def ssim(frames: Frames, truth: Frames) -> Values:
    """Structural similarity of each frame, 1 for equal ones, on the CPU; ValueError below 11 pixels a side."""
    h, w = frames.shape[-2:]
    if min(h, w) < _WINDOW:
        raise ValueError(f"SSIM needs frames of at least {_WINDOW} pixels a side; got {w}x{h}")
    mean0, mean1 = _smooth(frames), _smooth(truth)
    var0 = _smooth(frames * frames) - mean0 * mean0
    var1 = _smooth(truth * truth) - mean1 * mean1
    covariance = _smooth(frames * truth) - mean0 * mean1
    luminance = (2.0 * mean0 * mean1 + _C1) / (mean0 * mean0 + mean1 * mean1 + _C1)
    structure = (2.0 * covariance + _C2) / (var0 + var1 + _C2)
    return (luminance * structure).mean(dim=(1, 2, 3))


def gradient_energy(frames: Frames) -> Values:
    """Mean of ``|dI/dx| + |dI/dy|`` of each frame, by first differences."""
    across = (frames[..., :, 1:] - frames[..., :, :-1]).abs().mean(dim=(1, 2, 3))
    down = (frames[..., 1:, :] - frames[..., :-1, :]).abs().mean(dim=(1, 2, 3))
    return across + down


@metrics.register("psnr")
class PSNR(Metric):
    """`psnr` of every frame."""

    title, better, decimals = "PSNR dB", Better.HIGHER, 2

    def measure(self, result: WindowResult) -> Sample:
        return Sample.of(psnr(result.frames, result.truth))


@metrics.register("ssim")
class SSIM(Metric):
    """`ssim` of every frame."""

    title, better = "SSIM", Better.HIGHER

    def measure(self, result: WindowResult) -> Sample:
        return Sample.of(ssim(result.frames, result.truth))


@metrics.register("gradient-energy")
class GradientEnergy(Metric):
    """Gradient energy relative to the true frames; the mean is the ratio of the sums."""

    title, better, decimals = "gradient", Better.NEAR_ONE, 3

    def measure(self, result: WindowResult) -> Sample:
        """One ratio per frame, weighted by the true frame's energy; 1 where both frames are flat."""
        energy, true_energy = gradient_energy(result.frames), gradient_energy(result.truth)
        ratio = torch.where(true_energy > 0.0, energy / true_energy.clamp(min=1e-12), torch.ones_like(energy))
        return Sample.of(ratio, true_energy)


def _smooth(maps: Frames) -> Float[Tensor, "n 3 hv wv"]:
    """Gaussian mean over every window inside the frame.

    OpenCV filters all planes as one tall image, twenty times faster than a depthwise convolution. Values whose
    window overlaps the next plane or the border are cut off.
    """
    import cv2

    n, c, h, w = maps.shape
    tall = maps.reshape(n * c * h, w).cpu().numpy()
    smooth = torch.from_numpy(cv2.GaussianBlur(tall, (_WINDOW, _WINDOW), _SIGMA))
    margin = _WINDOW // 2
    return smooth.view(n, c, h, w)[..., margin : h - margin, margin : w - margin]

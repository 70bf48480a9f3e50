"""PSNR, SSIM, and the preserved gradient energy.

All of them are taken on frames **rounded to 8 bits** (`quantise`), because that is what a viewer
gets, and averaged over the three colour channels.

* ``PSNR = -10 log10(mse)``, in dB, with a peak of 1. A frame that is off by less than 8-bit coding
  noise would count as infinity and decide any mean, so it is held at `PSNR_CEILING`.
* ``SSIM`` of Wang et al.: Gaussian window of 11 by 11 pixels with sigma 1.5, population
  covariances, K = (0.01, 0.03), averaged over the positions where the window is whole.
* *Gradient energy* is the mean of ``|dI/dx| + |dI/dy|``. Blur lowers it, and blur is what PSNR
  rewards where motion is wrong: always read the two together, as a ratio to the true frames'.

References:
    Image quality assessment: from error visibility to structural similarity (Wang et al., 2004).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.evaluation.metrics.metric import Better, Frames, MadeFrames, Metric, Sample, Values, metrics

PSNR_CEILING = 60.0
"""A frame that is closer than this to the truth counts as this close, in dB."""

_WINDOW = 11
_SIGMA = 1.5
_C1, _C2 = 0.01**2, 0.03**2


def quantise(frames: Frames) -> Frames:
    """Frames as an 8-bit file would hold them: clamped, and rounded to 255 steps. float32."""
    return frames.float().clamp(0.0, 1.0).mul(255.0).round().div(255.0)


def psnr(frames: Frames, truth: Frames, *, ceiling: float = PSNR_CEILING) -> Values:
    """Peak signal-to-noise ratio of each frame in dB, at most ``ceiling``."""
    error = (frames - truth).square().mean(dim=(1, 2, 3))
    return (-10.0 * error.log10()).clamp(max=ceiling)


def ssim(frames: Frames, truth: Frames) -> Values:
    """Structural similarity of each frame, 1 for equal ones; computed on the CPU.

    Raises:
        ValueError: If a side is shorter than the 11-pixel window.
    """
    h, w = frames.shape[-2:]
    if min(h, w) < _WINDOW:
        raise ValueError(f"SSIM needs frames of at least {_WINDOW} pixels a side; got {w}x{h}")
    mean0, mean1 = _smooth(frames), _smooth(truth)
    var0 = _smooth(frames * frames) - mean0 * mean0
    var1 = _smooth(truth * truth) - mean1 * mean1
    both = _smooth(frames * truth) - mean0 * mean1
    luminance = (2.0 * mean0 * mean1 + _C1) / (mean0 * mean0 + mean1 * mean1 + _C1)
    structure = (2.0 * both + _C2) / (var0 + var1 + _C2)
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

    def measure(self, made: MadeFrames) -> Sample:
        return Sample.of(psnr(made.frames, made.truth))


@metrics.register("ssim")
class SSIM(Metric):
    """`ssim` of every frame."""

    title, better = "SSIM", Better.HIGHER

    def measure(self, made: MadeFrames) -> Sample:
        return Sample.of(ssim(made.frames, made.truth))


@metrics.register("gradient-energy")
class GradientEnergy(Metric):
    """Gradient energy of the new frames over that of the true ones; the mean is the ratio of the sums."""

    title, better, decimals = "gradient", Better.NEAR_ONE, 3

    def measure(self, made: MadeFrames) -> Sample:
        """One ratio per frame, weighted by the true frame's energy; 1 where both frames are flat."""
        energy, true = gradient_energy(made.frames), gradient_energy(made.truth)
        ratio = torch.where(true > 0.0, energy / true.clamp(min=1e-12), torch.ones_like(true))
        return Sample.of(ratio, true)


def _smooth(maps: Frames) -> Float[Tensor, "n 3 hv wv"]:
    """Gaussian mean over every whole window.

    All planes are filtered by OpenCV as one tall picture, twenty times faster than by depthwise
    convolution; where a window reaches into the next plane or over the border, it is cut off.
    """
    import cv2

    n, c, h, w = maps.shape
    tall = maps.reshape(n * c * h, w).cpu().numpy()
    smooth = torch.from_numpy(cv2.GaussianBlur(tall, (_WINDOW, _WINDOW), _SIGMA))
    margin = _WINDOW // 2
    return smooth.view(n, c, h, w)[..., margin : h - margin, margin : w - margin]

"""A statically typed program (``mypy --strict``, pyright): models, motion, registries, evaluation."""

from pathlib import Path

import torch
from torch import Tensor

import rdvfi


@rdvfi.bases.register("nearest-pair")
class NearestPair(rdvfi.Basis):
    """Linear interpolation between neighbouring knots."""

    reach = 1

    def weights(self, knots: Tensor, times: Tensor) -> Tensor:
        """Weights of the two knots around each time."""
        right = torch.searchsorted(knots, times.contiguous()).clamp(1, len(knots) - 1)
        share = ((times - knots[right - 1]) / (knots[right] - knots[right - 1]))[:, None]
        rows = torch.zeros(len(times), len(knots), dtype=knots.dtype, device=knots.device)
        rows.scatter_(1, right[:, None], share)
        return rows.scatter_(1, right[:, None] - 1, 1 - share)


def middle_frame(model: rdvfi.Interpolator, img0: Tensor, img1: Tensor) -> Tensor:
    """The frame at time 0.5, (B, 3, H, W)."""
    frames: Tensor = model(img0, img1, timesteps=[0.5])
    return frames[:, 0]


def colours_of_motion(model: rdvfi.Interpolator, img0: Tensor, img1: Tensor) -> Tensor:
    """The flow from the frame at time 0.5 to the first frame, as colours."""
    motion: rdvfi.Motion = model.estimate(img0, img1, seed=0).to("cpu")
    to_first, _ = motion.trajectory.at(torch.tensor([0.5]))
    return rdvfi.flow_colours(to_first[0, 0])


def main(first: Path, last: Path, clip: Path) -> None:
    """Interpolate, show the motion, exchange a part, and evaluate both models."""
    from PIL import Image

    model = rdvfi.create_model("rdvfi-s")
    other = rdvfi.create_model("rdvfi-s", "basis=nearest-pair")
    img0, img1 = (rdvfi.to_tensor(Image.open(path)) for path in (first, last))
    rdvfi.to_image(middle_frame(model, img0, img1)).save("middle.png")
    rdvfi.to_image(colours_of_motion(model, img0, img1)).save("flow.png")
    report = rdvfi.evaluate(clip, gap=2, models={"cubic": model, "pair": other}, pairs=2)
    print([(score.method, score.psnr) for score in report.scores])


if __name__ == "__main__":
    main(Path("first.png"), Path("last.png"), Path("clip.mp4"))

"""A user-defined backbone: defined, registered, checked and run in one script.

``python examples/register_backbone.py [CLIP] [OUT.png]`` interpolates between the first two frames of a
clip and writes all frames side by side.

The backbone needs no training. Its latents are the pixels, rearranged so that every
8x8 block becomes 192 channels; encoding is lossless. Its keyframes are both frames, warped along the
straight lines of a coarse flow and blended.
"""

import sys
from pathlib import Path

import av
import cv2
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

import rdvfi
from rdvfi.interfaces import CoarseFlow, Condition, FlowEstimator, KeyframeGenerator
from rdvfi.ops import backward_warp, straight_flows
from rdvfi.testing import check_generator
from rdvfi.types import SmallImage

CLIP = Path(__file__).parent / "clips" / "branch.mp4"


# --8<-- [start:backbone]
class Rearranged(KeyframeGenerator):
    """Keyframes by warping; latents are the pixels of each block."""

    latent_channels = 192
    stride = 8
    size_multiple = 16
    time_symmetric = True
    gives_prior = True

    def __init__(self, coarse: FlowEstimator, between: int) -> None:
        super().__init__()
        self.coarse = coarse
        self.knot_times = tuple(i / (between + 1) for i in range(between + 2))

    def denoise(
        self, noisy: Float[Tensor, "b n c hz wz"], sigma: Float[Tensor, " b"], condition: Condition
    ) -> Float[Tensor, "b n c hz wz"]:
        """The latents between the ends; noise is not used."""
        times = self.times(noisy.device)[1:-1]
        img0, img1 = self.decode(condition.latent0), self.decode(condition.latent1)
        to_first, to_last = straight_flows(*condition.prior.end_flows.unbind(1), times)
        knots = []
        for i, time in enumerate(times):
            first = backward_warp(img0, to_first[:, i])
            last = backward_warp(img1, to_last[:, i])
            knots.append(self.encode(torch.lerp(first, last, time)))
        return torch.stack(knots, dim=1)

    def encode(self, images: SmallImage) -> Float[Tensor, "b c hz wz"]:
        return 4.0 * (F.pixel_unshuffle(images, self.stride) - 0.5)  # about unit variance

    def decode(self, latents: Float[Tensor, "b c hz wz"]) -> Float[Tensor, "b 3 h w"]:
        return F.pixel_shuffle(latents / 4.0 + 0.5, self.stride).clamp(0.0, 1.0)


@rdvfi.backbones.register("rearranged")
def rearranged(*, coarse: CoarseFlow, between: int = 3) -> KeyframeGenerator:
    """Pixels warped along straight lines.

    Args:
        coarse: End-to-end flow on pixels.
        between: Number of keyframes between the ends.
    """
    return Rearranged(coarse, between)


# --8<-- [end:backbone]
def main(clip: Path, output: Path) -> None:
    """Check the backbone, and interpolate between the first two frames of a clip."""
    check_generator(rdvfi.backbones.create("rearranged", coarse=rdvfi.flows.create("dis")))

    # Recipes choose it by name and set its parameters.
    model = rdvfi.build(
        "rdvfi_s",
        "backbone=rearranged",
        "backbone.between=7",
        "coarse=dis",
        "trajectory=straight",
        "renderer=warp",
    ).eval()

    with av.open(str(clip)) as container:
        frames = container.decode(video=0)
        pair = [next(frames).to_ndarray(format="rgb24") for _ in range(2)]
    img0, img1 = (torch.from_numpy(frame).permute(2, 0, 1)[None] / 255.0 for frame in pair)
    with torch.inference_mode():
        strip = model(img0, img1, timesteps=[0.0, 0.25, 0.5, 0.75, 1.0])[0]

    picture = torch.cat(list(strip), dim=2).permute(1, 2, 0).mul(255.0).round().byte().numpy()
    output.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(output), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    print(f"wrote {output}: the two frames, and three frames between them")


if __name__ == "__main__":
    arguments = [Path(argument) for argument in sys.argv[1:]]
    defaults = [CLIP, Path("out") / "register_backbone.png"]
    main(*[*arguments, *defaults[len(arguments) :]][:2])

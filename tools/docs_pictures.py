"""Make the pictures of the documentation with the library and its example clip:

    python tools/docs_pictures.py docs/assets

- ``demo.jpg``: a pair of frames and the frames made between them.
- ``motion.jpg``: the paths of pixels, the flow, the confidence, and the frame that is drawn from them.
- ``curved.jpg``: a photograph that turns by 60 degrees; straight paths beside those of RDVFI-S.
- ``failure.jpg``: frames that are too far apart, and a scene cut.
- ``branch.mp4``: the example clip as it is, beside the same with eight times as many frames.
"""

import argparse
import tempfile
from pathlib import Path

import cv2
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from skimage import data
from torch import Tensor

import rdvfi
from rdvfi.media.clip import open_clip
from rdvfi.motion.trajectory.plot import flow_colours

CLIP = "examples/clips/branch.mp4"
PAIR = 6, 7
"""Numbers of the two frames that most pictures show."""
WIDTH = 14.6
"""Inches, at 100 pixels each."""


def main() -> None:
    """Write all pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    model = rdvfi.create_model("rdvfi-s")
    with torch.no_grad():
        demo(model).savefig(folder / "demo.jpg", dpi=100)
        motion(model).savefig(folder / "motion.jpg", dpi=100)
        curved(model).savefig(folder / "curved.jpg", dpi=100)
        failure(model).savefig(folder / "failure.jpg", dpi=100)
    clip(folder / "branch.mp4")


def clip(target: Path) -> None:
    """The example clip, before and after, side by side."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made.mp4"
        rdvfi.interpolate_video(CLIP, made, multiplier=8, compare="side-by-side")
        beside = made.with_name("made.side-by-side.mp4")
        rdvfi.interpolate_video(beside, target, multiplier=1, crf=32, preset="slower", overwrite=True)


def frames_of_clip(*numbers: int) -> list[Tensor]:
    """Frames of the example clip as ``(1, 3, H, W)``, floats in [0, 1]."""
    return [to_tensor(picture) for picture in open_clip(CLIP).read(numbers)]


def to_tensor(picture: np.ndarray) -> Tensor:
    """A picture of bytes as a batch of one."""
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None] / 255.0


def panels(count: int, height: float, *, columns: int | None = None) -> tuple[Figure, list[Axes]]:
    """A figure of pictures side by side, without axes."""
    columns = columns or count
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = list(np.ravel(figure.subplots(-(-count // columns), columns, squeeze=False)))
    for axis in axes:
        axis.set_axis_off()
    return figure, axes


def show(axis: Axes, image: Tensor, title: str) -> None:
    """A frame ``(1, 3, H, W)`` with its title."""
    axis.imshow(image[0].permute(1, 2, 0).clamp(0, 1).numpy())
    axis.set_title(title, fontsize=14)


def demo(model: rdvfi.Interpolator) -> Figure:
    """Two neighbouring frames of the clip and four times between."""
    img0, img1 = frames_of_clip(*PAIR)
    times = [0.2, 0.4, 0.6, 0.8]
    made = model(img0, img1, timesteps=times)
    figure, axes = panels(6, 5.7, columns=3)
    show(axes[0], img0, "first frame (given)")
    show(axes[5], img1, "last frame (given)")
    for axis, time, image in zip(axes[1:5], times, made[0], strict=True):
        show(axis, image[None], f"t = {time}")
    return figure


def motion(model: rdvfi.Interpolator) -> Figure:
    """What the model knows of the motion between two frames."""
    img0, img1 = frames_of_clip(*PAIR)
    found = model.estimate(img0, img1)
    half = torch.tensor([0.5])
    to_first, _ = found.trajectory.at(half)
    confidence = found.trajectory.confidence(half)[0, 0].amin(0)
    figure, axes = panels(4, 8.6, columns=2)
    show(axes[0], img0, "paths of pixels from t = 0 to 1, over the first frame")
    draw_paths(axes[0], found.trajectory, img0.shape[-2:], spacing=14)
    axes[1].imshow(flow_colours(to_first[0, 0]).permute(1, 2, 0))
    axes[1].set_title("flow to the first frame at t = 0.5: hue is direction, strength is length", fontsize=14)
    axes[2].imshow(confidence.numpy(), cmap="gray", vmin=0, vmax=1)
    axes[2].set_title("confidence at t = 0.5: dark where both ends disagree", fontsize=14)
    show(axes[3], model.render(img0, img1, found, [0.5])[:, 0], "the frame drawn at t = 0.5")
    return figure


def draw_paths(axis: Axes, trajectory: rdvfi.Trajectory, size: torch.Size, spacing: int) -> None:
    """Where the points seen at t = 0 go, as lines that end in a dot."""
    times = torch.linspace(0, 1, 9)
    moved = trajectory.shift(torch.zeros(9), times)[0]
    h, w = moved.shape[-2:]
    scale_y, scale_x = size[0] / h, size[1] / w
    ys, xs = torch.meshgrid(*(torch.arange(spacing // 2, n, spacing) for n in (h, w)), indexing="ij")
    for y, x in zip(ys.flatten().tolist(), xs.flatten().tolist(), strict=True):
        path = moved[:, :, y, x]
        px, py = (x + 0.5 + path[:, 0]) * scale_x, (y + 0.5 + path[:, 1]) * scale_y
        axis.plot(px.numpy(), py.numpy(), color="#ffd21f", linewidth=1.6)
        axis.plot(px[-1:].numpy(), py[-1:].numpy(), "o", color="#e5342b", markersize=3)
    axis.set_xlim(0, size[1])
    axis.set_ylim(size[0], 0)


def turned(degrees: float) -> Tensor:
    """A photograph turned about its centre, over another one."""
    picture, ground = data.astronaut()[:320], cv2.resize(data.coffee(), (512, 320))
    matrix = cv2.getRotationMatrix2D((256, 160), -degrees, 0.85)
    mask = np.zeros((320, 512), np.uint8)
    cv2.rectangle(mask, (110, 40), (402, 280), 255, -1)
    inside = cv2.warpAffine(mask, matrix, (512, 320), flags=cv2.INTER_AREA)[..., None] / 255.0
    drawn = inside * cv2.warpAffine(picture, matrix, (512, 320), flags=cv2.INTER_CUBIC) + (1 - inside) * ground
    return to_tensor(np.rint(drawn).astype(np.uint8))


def curved(model: rdvfi.Interpolator) -> Figure:
    """A turn by 60 degrees: straight paths shrink it, curved ones do not."""
    img0, img1, truth = turned(0), turned(60), turned(30)
    straight = rdvfi.build("rdvfi_s", "coarse=dis", "trajectory=straight", "renderer=warp").eval()
    figure, axes = panels(6, 6.4, columns=3)
    show(axes[0], img0, "first frame")
    show(axes[1], img1, "last frame, turned by 60 degrees")
    show(axes[2], truth, "the true frame at t = 0.5")
    show(axes[3], 0.5 * (img0 + img1), "cross-fade")
    show(axes[4], straight(img0, img1, [0.5])[:, 0], "classical flow, straight paths")
    show(axes[5], model(img0, img1, [0.5])[:, 0], "RDVFI-S")
    return figure


def failure(model: rdvfi.Interpolator) -> Figure:
    """A gap that is too wide, and two scenes."""
    img0, img1 = frames_of_clip(6, 12)
    figure, axes = panels(6, 5.7, columns=3)
    show(axes[0], img0, "first frame")
    show(axes[1], img1, "last frame, one second later")
    show(axes[2], model(img0, img1, [0.5])[:, 0], "t = 0.5: double and torn")
    other = turned(0)
    other = torch.nn.functional.interpolate(other, size=img0.shape[-2:], mode="bilinear", antialias=True)
    show(axes[3], img0, "first frame")
    show(axes[4], other, "last frame, of another scene")
    show(axes[5], model(img0, other, [0.5])[:, 0], "t = 0.5: a cross-fade, for the confidence is low")
    return figure


if __name__ == "__main__":
    main()

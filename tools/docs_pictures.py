"""Create the pictures of the documentation with the library and its example clip:

    python tools/docs_pictures.py docs/assets

- ``demo.jpg``: a pair of frames and four interpolated frames.
- ``motion.jpg``: the paths of pixels, the flow, the confidence, and the interpolated frame.
- ``curved.jpg``: a photograph rotated by 60 degrees; straight paths and those of RDVFI-S.
- ``failure.jpg``: frames that are too far apart, and a scene cut.
- ``branch.mp4``: the example clip, side by side with eight times as many frames.
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
"""Numbers of the two frames in most pictures."""
WIDTH = 14.6
"""Width of a figure in inches, at 100 pixels per inch."""


def main() -> None:
    """Write all pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    model = rdvfi.create_model("rdvfi-s")
    with torch.no_grad():
        plot_pair(model).savefig(folder / "demo.jpg", dpi=100)
        plot_motion(model).savefig(folder / "motion.jpg", dpi=100)
        plot_rotation(model).savefig(folder / "curved.jpg", dpi=100)
        plot_failures(model).savefig(folder / "failure.jpg", dpi=100)
    write_clip(folder / "branch.mp4")


def write_clip(target: Path) -> None:
    """Write the example clip and its interpolation, side by side."""
    with tempfile.TemporaryDirectory() as folder:
        interpolated = Path(folder) / "made.mp4"
        rdvfi.interpolate_video(CLIP, interpolated, multiplier=8, compare="side-by-side")
        side_by_side = interpolated.with_name("made.side-by-side.mp4")
        rdvfi.interpolate_video(side_by_side, target, multiplier=1, crf=32, preset="slower", overwrite=True)


def read_frames(*numbers: int) -> list[Tensor]:
    """Frames of the example clip as ``(1, 3, H, W)``, floats in [0, 1]."""
    return [to_tensor(picture) for picture in open_clip(CLIP).read(numbers)]


def to_tensor(picture: np.ndarray) -> Tensor:
    """An 8-bit picture (H, W, 3) as a batch of one."""
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None] / 255.0


def create_panels(count: int, height: float, *, columns: int | None = None) -> tuple[Figure, list[Axes]]:
    """A figure with a grid of panels without axes."""
    columns = columns or count
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = list(np.ravel(figure.subplots(-(-count // columns), columns, squeeze=False)))
    for axis in axes:
        axis.set_axis_off()
    return figure, axes


def show_frame(axis: Axes, image: Tensor, title: str) -> None:
    """Show a frame ``(1, 3, H, W)`` with a title."""
    axis.imshow(image[0].permute(1, 2, 0).clamp(0, 1).numpy())
    axis.set_title(title, fontsize=14)


def plot_pair(model: rdvfi.Interpolator) -> Figure:
    """Two consecutive frames of the clip and four interpolated ones."""
    img0, img1 = read_frames(*PAIR)
    times = [0.2, 0.4, 0.6, 0.8]
    interpolated = model(img0, img1, timesteps=times)
    figure, axes = create_panels(6, 5.7, columns=3)
    show_frame(axes[0], img0, "first frame (given)")
    show_frame(axes[5], img1, "last frame (given)")
    for axis, time, image in zip(axes[1:5], times, interpolated[0], strict=True):
        show_frame(axis, image[None], f"t = {time}")
    return figure


def plot_motion(model: rdvfi.Interpolator) -> Figure:
    """Paths, flow, confidence and the interpolated frame of a pair."""
    img0, img1 = read_frames(*PAIR)
    estimated = model.estimate(img0, img1)
    middle = torch.tensor([0.5])
    to_first, _ = estimated.trajectory.at(middle)
    confidence = estimated.trajectory.confidence(middle)[0, 0].amin(0)
    figure, axes = create_panels(4, 8.6, columns=2)
    show_frame(axes[0], img0, "paths of pixels from t = 0 to 1, over the first frame")
    draw_paths(axes[0], estimated.trajectory, img0.shape[-2:], spacing=14)
    axes[1].imshow(flow_colours(to_first[0, 0]).permute(1, 2, 0))
    axes[1].set_title("flow to the first frame at t = 0.5: hue is direction, strength is length", fontsize=14)
    axes[2].imshow(confidence.numpy(), cmap="gray", vmin=0, vmax=1)
    axes[2].set_title("confidence at t = 0.5: dark where both ends disagree", fontsize=14)
    show_frame(axes[3], model.render(img0, img1, estimated, [0.5])[:, 0], "the frame drawn at t = 0.5")
    return figure


def draw_paths(axis: Axes, trajectory: rdvfi.Trajectory, size: torch.Size, spacing: int) -> None:
    """Draw the paths of points from t = 0 to t = 1, as lines that end in a dot."""
    times = torch.linspace(0, 1, 9)
    displacement = trajectory.shift(torch.zeros(9), times)[0]
    h, w = displacement.shape[-2:]
    scale_y, scale_x = size[0] / h, size[1] / w
    ys, xs = torch.meshgrid(*(torch.arange(spacing // 2, n, spacing) for n in (h, w)), indexing="ij")
    for y, x in zip(ys.flatten().tolist(), xs.flatten().tolist(), strict=True):
        path = displacement[:, :, y, x]
        px, py = (x + 0.5 + path[:, 0]) * scale_x, (y + 0.5 + path[:, 1]) * scale_y
        axis.plot(px.numpy(), py.numpy(), color="#ffd21f", linewidth=1.6)
        axis.plot(px[-1:].numpy(), py[-1:].numpy(), "o", color="#e5342b", markersize=3)
    axis.set_xlim(0, size[1])
    axis.set_ylim(size[0], 0)


def rotated_photograph(degrees: float) -> Tensor:
    """A photograph rotated about its centre, over another one."""
    picture, background = data.astronaut()[:320], cv2.resize(data.coffee(), (512, 320))
    matrix = cv2.getRotationMatrix2D((256, 160), -degrees, 0.85)
    mask = np.zeros((320, 512), np.uint8)
    cv2.rectangle(mask, (110, 40), (402, 280), 255, -1)
    inside = cv2.warpAffine(mask, matrix, (512, 320), flags=cv2.INTER_AREA)[..., None] / 255.0
    composite = inside * cv2.warpAffine(picture, matrix, (512, 320), flags=cv2.INTER_CUBIC) + (1 - inside) * background
    return to_tensor(np.rint(composite).astype(np.uint8))


def plot_rotation(model: rdvfi.Interpolator) -> Figure:
    """A rotation by 60 degrees: straight paths shrink the photograph, curved ones do not."""
    img0, img1, truth = rotated_photograph(0), rotated_photograph(60), rotated_photograph(30)
    straight = rdvfi.build("rdvfi_s", "coarse=dis", "trajectory=straight", "renderer=warp").eval()
    figure, axes = create_panels(6, 6.4, columns=3)
    show_frame(axes[0], img0, "first frame")
    show_frame(axes[1], img1, "last frame, turned by 60 degrees")
    show_frame(axes[2], truth, "the true frame at t = 0.5")
    show_frame(axes[3], 0.5 * (img0 + img1), "cross-fade")
    show_frame(axes[4], straight(img0, img1, [0.5])[:, 0], "classical flow, straight paths")
    show_frame(axes[5], model(img0, img1, [0.5])[:, 0], "RDVFI-S")
    return figure


def plot_failures(model: rdvfi.Interpolator) -> Figure:
    """Frames too far apart, and frames of two scenes."""
    img0, img1 = read_frames(6, 12)
    figure, axes = create_panels(6, 5.7, columns=3)
    show_frame(axes[0], img0, "first frame")
    show_frame(axes[1], img1, "last frame, one second later")
    show_frame(axes[2], model(img0, img1, [0.5])[:, 0], "t = 0.5: double and torn")
    other = rotated_photograph(0)
    other = torch.nn.functional.interpolate(other, size=img0.shape[-2:], mode="bilinear", antialias=True)
    show_frame(axes[3], img0, "first frame")
    show_frame(axes[4], other, "last frame, of another scene")
    show_frame(axes[5], model(img0, other, [0.5])[:, 0], "t = 0.5: a cross-fade, for the confidence is low")
    return figure


if __name__ == "__main__":
    main()

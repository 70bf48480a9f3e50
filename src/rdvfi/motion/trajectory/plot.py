"""Pictures of a trajectory: direction as hue, length as strength."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.interfaces import Trajectory


def flow_to_rgb(flow: Float[Tensor, "2 h w"], *, longest: float | None = None) -> Float[np.ndarray, "h w 3"]:
    """Colour-code a flow field: hue is direction, saturation is length relative to ``longest``.

    Args:
        flow: ``(dx, dy)`` in pixels.
        longest: Length at full saturation; the field's own maximum by default.
    """
    from matplotlib.colors import hsv_to_rgb

    dx, dy = flow.detach().float().cpu().numpy()
    length = np.hypot(dx, dy)
    top = float(length.max()) if longest is None else longest
    hue = (np.arctan2(dy, dx) / (2.0 * np.pi)) % 1.0
    strength = np.clip(length / max(top, 1e-6), 0.0, 1.0)
    return hsv_to_rgb(np.stack((hue, strength, np.ones_like(hue)), axis=-1))


def plot_trajectory(trajectory: Trajectory, path: Path, times: tuple[float, ...]) -> None:
    """Write a picture of the flows to both ends, and of the confidence, at some times.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("plots need matplotlib; install it with: pip install 'rdvfi[plot]'") from error
    when = torch.tensor(times, dtype=torch.float32)
    first, last = (flow[0] for flow in trajectory.at(when))
    trust = trajectory.confidence(when)[0].amin(1)
    longest = float(torch.cat((first, last)).norm(dim=1).max())
    figure = Figure(figsize=(3.2 * len(times), 6.0), layout="constrained")
    axes = figure.subplots(3, len(times), squeeze=False)
    for column, time in enumerate(times):
        axes[0, column].imshow(flow_to_rgb(first[column], longest=longest))
        axes[1, column].imshow(flow_to_rgb(last[column], longest=longest))
        axes[2, column].imshow(trust[column].cpu().numpy(), cmap="gray", vmin=0.0, vmax=1.0)
        axes[0, column].set_title(f"t = {time:g}")
    for row, label in enumerate(("to the first frame", "to the last frame", "confidence")):
        axes[row, 0].set_ylabel(label)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    figure.suptitle(f"longest flow {longest:.1f} px of the trajectory's grid")
    figure.savefig(path, dpi=100)

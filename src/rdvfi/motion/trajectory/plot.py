"""Pictures of a trajectory: direction as hue, length as strength."""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.compat import import_optional
from rdvfi.interfaces import Trajectory


def flow_colours(flow: Float[Tensor, "2 h w"], longest: float | None = None) -> Float[Tensor, "3 h w"]:
    """A flow field as RGB in [0, 1]: hue is direction, saturation is length relative to ``longest``.

    Args:
        flow: (dx, dy) in pixels.
        longest: The length in pixels that is shown in full colour; by default the longest that there is.
    """
    longest = float(flow.norm(dim=0).max()) if longest is None else longest
    hue = (torch.atan2(flow[1], flow[0]) / (2.0 * torch.pi)) % 1.0
    strength = (flow.norm(dim=0) / max(longest, 1e-6)).clamp(0.0, 1.0)
    phase = torch.tensor([0.0, 4.0, 2.0], device=flow.device)[:, None, None]
    pure = (((6.0 * hue + phase) % 6.0 - 3.0).abs() - 1.0).clamp(0.0, 1.0)
    return 1.0 - strength * (1.0 - pure)


def plot_trajectory(trajectory: Trajectory, path: Path, times: tuple[float, ...]) -> None:
    """Write a picture of the flows to both ends, and of the confidence, at some times.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
    """
    figures = import_optional("matplotlib.figure", "plots need", "'rdvfi[plot]'")
    when = torch.tensor(times, dtype=torch.float32)
    first, last = (flow[0] for flow in trajectory.at(when))
    trust = trajectory.confidence(when)[0].amin(1)
    longest = float(torch.cat((first, last)).norm(dim=1).max())
    figure = figures.Figure(figsize=(3.2 * len(times), 6.0), layout="constrained")
    axes = figure.subplots(3, len(times), squeeze=False)
    for column, time in enumerate(times):
        axes[0, column].imshow(flow_colours(first[column], longest).permute(1, 2, 0).cpu().numpy())
        axes[1, column].imshow(flow_colours(last[column], longest).permute(1, 2, 0).cpu().numpy())
        axes[2, column].imshow(trust[column].cpu().numpy(), cmap="gray", vmin=0.0, vmax=1.0)
        axes[0, column].set_title(f"t = {time:g}")
    for row, label in enumerate(("to the first frame", "to the last frame", "confidence")):
        axes[row, 0].set_ylabel(label)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    figure.suptitle(f"longest flow {longest:.1f} px of the trajectory's grid")
    figure.savefig(path, dpi=100)

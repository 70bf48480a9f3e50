"""The entry point of evaluation: `evaluate` runs methods on a clip or a published data set and returns a report."""

import os
from collections.abc import Callable, Sequence

import torch

from rdvfi.evaluation.ablation import ablation_losses, create_ablations
from rdvfi.evaluation.dataset_protocol import Protocol
from rdvfi.evaluation.environment import read_environment
from rdvfi.evaluation.evaluation_data import EvaluationData
from rdvfi.evaluation.measurement import ResultCallback, measure, resolve_device
from rdvfi.evaluation.methods import Models, create_methods
from rdvfi.evaluation.metrics import DEFAULT_METRICS, PERCEPTUAL_METRICS
from rdvfi.evaluation.results import Report
from rdvfi.evaluation.window_properties import property_function
from rdvfi.media.pixels import FFMPEG


def evaluate(
    clip: str | os.PathLike[str],
    *,
    protocol: str | Protocol | None = None,
    gap: int | None = None,
    models: Models = ("rdvfi-s", "dis", "blend"),
    start: int = 0,
    pairs: int | None = None,
    max_size: int | None = None,
    skip_cuts: bool | None = None,
    conversion: str = FFMPEG,
    metrics: Sequence[str] | None = None,
    perceptual: bool = False,
    group_by: Sequence[str] = (),
    ablate: bool = False,
    cost: bool = False,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    on_window: Callable[[], None] | None = None,
    on_result: ResultCallback | None = None,
) -> Report:
    """Measure methods against the true frames of a clip, or of a data set by its published protocol.

    Frames ``start, start + gap, start + 2 gap, ...`` are the inputs; all frames between are interpolated
    by each method and compared with the true ones.

    Args:
        clip: Video file, folder of images, or a set of generated scenes: ``"procedural"`` (turns
            and zooms), ``"procedural-limbs"``, ``"laboratory-determined"`` or
            ``"laboratory-undetermined"`` (`rdvfi.evaluation.laboratory`). With a protocol, the
            folder of the data set, which must be complete.
        protocol: Name of a bundled protocol, a YAML file (`rdvfi.evaluation.dataset_protocol`), or a `Protocol`.
            It defines the inputs, the interpolated frames and their size.
        gap: Distance between input frames, 9 by default; of protocols for ``folder`` only.
        models: Names (see `rdvfi.evaluation.methods`), methods or models; or a mapping from their names
            in the report: ``{"mine": model, "theirs": other}``.
        start: Number of the first input frame (of the first scene of a procedural set).
        pairs: Number of input pairs, from the start; all by default. Scores on fewer pairs than those of a protocol
            are not comparable with published ones.
        max_size: Longest side of the frames; larger ones are downscaled first.
        skip_cuts: Skip pairs between which the scene changes; by default in clips of more
            than 1,000 frames.
        conversion: Of video to RGB: "ffmpeg", that of ``ffmpeg clip.mp4 %d.png``, OpenCV and PyAV, with
            which published figures are computed; or "exact", that of `rdvfi.interpolate_video`.
        metrics: Names of metrics (`rdvfi.evaluation.metrics`); by default PSNR, SSIM and gradient energy, or those of
            the protocol. One that lacks a package or the weights of its network is named in ``Report.unavailable``.
        perceptual: Also compute FSIM, VIF and GMSD; needs the extra ``metrics``.
        group_by: "motion", "occlusion": properties of the true frames to group scores by.
        ablate: Measure each model of this library again with straight keyframes, and again with
            plain composition.
        cost: Also measure time per pair and per extra frame, and peak memory (`rdvfi.evaluation.cost`).
        device: Device of the networks.
        dtype: Data type of the models of this library.
        on_window: Called after each pair, for a progress bar.
        on_result: Called with each method and its result for each pair.

    Raises:
        FileNotFoundError: If the clip does not exist.
        ValueError: If it cannot be read or is too short, if a data set is incomplete or a file of it
            damaged (it is named), if a name is unknown, or if ``ablate`` is given and no model has the parts
            that it replaces.
        Exception: The error of the first method, if every one of them failed; where others succeed,
            the score of the method that failed gives the reason.
    """
    data = EvaluationData(clip, protocol, gap, start, pairs, max_size, skip_cuts, conversion)
    resolved_device = resolve_device(device)
    methods = create_methods(models, device=resolved_device, dtype=dtype)
    ablated_methods = [method for method in methods if method.model is not None] if ablate else []
    if ablate and not ablated_methods:
        raise ValueError("nothing to ablate: none of the methods is one of our models")
    measured = measure(
        data.windows(),
        [*methods, *(variant for method in ablated_methods for variant in create_ablations(method))],
        device=resolved_device,
        metrics=_metric_names(metrics, data.resolved_protocol, perceptual),
        skip_cuts=data.skips_cuts,
        on_window=on_window,
        on_result=on_result,
        window_properties=property_function(group_by),
        cost_dtype=str(dtype).removeprefix("torch.") if cost else None,
    )
    return Report(
        clip=data.title,
        gap=data.resolved_gap,
        conversion=conversion,
        size=measured.sizes[-1],
        sizes=len(measured.sizes),
        windows=measured.windows,
        unavailable=measured.unavailable,
        pairs=measured.pairs,
        frames=measured.frames,
        skipped=measured.skipped,
        scores=measured.scores,
        losses=ablation_losses([method.name for method in ablated_methods], measured.scores),
        environment=read_environment(resolved_device),
    )


def _metric_names(requested: Sequence[str] | None, protocol: Protocol | None, perceptual: bool) -> list[str]:
    """The requested metrics, or those of the protocol, or the default ones; with the perceptual ones if asked for."""
    names = requested
    if names is None:
        names = DEFAULT_METRICS if protocol is None else protocol.metrics
    return [*names, *(name for name in PERCEPTUAL_METRICS if perceptual and name not in names)]

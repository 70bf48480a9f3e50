"""`evaluate`: methods on a clip or a published data set, with a report."""

import os
from collections.abc import Callable, Sequence

import torch

from rdvfi.evaluation.ablate import ablations, losses
from rdvfi.evaluation.dataset_protocol import Protocol
from rdvfi.evaluation.measure import Observer, measure, usable_device
from rdvfi.evaluation.methods import Models, create_methods
from rdvfi.evaluation.metrics import DEFAULT, PERCEPTUAL
from rdvfi.evaluation.results import Report, read_environment
from rdvfi.evaluation.window_properties import describer
from rdvfi.evaluation.window_source import WindowSource
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
    observe: Observer | None = None,
) -> Report:
    """Measure methods against the true frames of a clip, or of a set of clips by its published protocol.

    Frames ``start, start + gap, start + 2 gap, ...`` are the inputs; all frames between are made
    by each method and compared with the true ones.

    Args:
        clip: Video file, folder of images, or a set of generated scenes: ``"procedural"`` (turns
            and zooms), ``"procedural-limbs"``, ``"laboratory-determined"`` or
            ``"laboratory-undetermined"`` (`rdvfi.evaluation.laboratory`). With a protocol, the
            folder of the set, which must be whole.
        protocol: Name of a bundled protocol, a YAML file (`rdvfi.evaluation.dataset_protocol`), or one.
            It says what is an input, which frames are made, and their size.
        gap: Distance between input frames, 9 by default; of protocols for ``folder`` only.
        models: Names (see `rdvfi.evaluation.methods`), methods or models; or a mapping from what they are
            called in the report: ``{"mine": model, "theirs": other}``.
        start: Number of the first input frame (of the first scene of a procedural set).
        pairs: Number of input pairs, from the start; all by default. Fewer than a protocol's compare
            with nothing published.
        max_size: Longest side of the frames; larger ones are reduced first.
        skip_cuts: Leave out pairs between which the scene changes; by default in clips of more
            than 1,000 frames.
        conversion: Of video to RGB: "ffmpeg", that of ``ffmpeg clip.mp4 %d.png``, OpenCV and PyAV, by
            which published figures are taken; or "exact", that of `rdvfi.interpolate_video`.
        metrics: Names of metrics (`rdvfi.evaluation.metrics`); by default PSNR, SSIM and gradient energy, or those of
            the protocol. One that lacks a package or the weights of its network is named in ``Report.unavailable``.
        perceptual: Take FSIM, VIF and GMSD too; needs the extra ``metrics``.
        group_by: "motion", "occlusion": properties of the true frames to group scores by.
        ablate: Measure each of our models again with straight-line keyframes, and again with
            plain composition.
        cost: Measure time per pair and per extra frame, and peak memory, too (`rdvfi.evaluation.cost`).
        device: Where networks run.
        dtype: Type that our models compute in.
        on_window: Called after each pair, for a progress bar.
        observe: Called with each method and what it made of each pair.

    Raises:
        FileNotFoundError: If the clip does not exist.
        ValueError: If it cannot be read or is too short, if a copy of a set is not whole or a file of it
            damaged (it is named), if a name is unknown, or if ``ablate`` is asked of a model without the
            parts that it replaces.
        Exception: What the methods raised, if every one of them failed; one that fails beside
            others is left out, and its score says why.
    """
    source = WindowSource(clip, protocol, gap, start, pairs, max_size, skip_cuts, conversion)
    where = usable_device(device)
    methods = create_methods(models, device=where, dtype=dtype)
    ours = [method for method in methods if method.model is not None]
    if ablate and not ours:
        raise ValueError("nothing to ablate: none of the methods is one of our models")
    measured = measure(
        source.windows(),
        [*methods, *(variant for method in ours if ablate for variant in ablations(method))],
        device=where,
        metrics=_metrics(metrics, source.chosen, perceptual),
        skip_cuts=source.leaves_cuts_out,
        on_window=on_window,
        observe=observe,
        describe=describer(group_by),
        cost_dtype=str(dtype).removeprefix("torch.") if cost else None,
    )
    return Report(
        clip=source.title,
        gap=source.distance,
        conversion=conversion,
        size=measured.size,
        sizes=len(measured.sizes),
        windows=measured.windows,
        unavailable=measured.unavailable,
        pairs=measured.pairs,
        frames=measured.frames,
        skipped=measured.skipped,
        scores=measured.scores,
        losses=losses([method.name for method in ours], measured.scores) if ablate else (),
        environment=read_environment(where),
    )


def _metrics(given: Sequence[str] | None, protocol: Protocol | None, perceptual: bool) -> list[str]:
    names = given if given is not None else DEFAULT if protocol is None else protocol.metrics
    return [*names, *(name for name in PERCEPTUAL if perceptual and name not in names)]

"""`evaluate`: one call from a clip and names to a report."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from rdvfi.evaluation.ablate import ablations, losses
from rdvfi.evaluation.clip_evaluation import LONG_CLIP, EvaluationWindow, windows
from rdvfi.evaluation.dataset_protocol import Protocol, load_protocol
from rdvfi.evaluation.measure import Observer, measure, usable_device
from rdvfi.evaluation.methods import Models, create_methods
from rdvfi.evaluation.metrics import DEFAULT, PERCEPTUAL
from rdvfi.evaluation.procedural import procedural_windows, scene_count, scene_sets
from rdvfi.evaluation.protocol_windows import windows_of
from rdvfi.evaluation.results import Report, read_environment
from rdvfi.evaluation.window_properties import describer
from rdvfi.media.clip import open_clip
from rdvfi.media.pixels import Picture
from rdvfi.registry import did_you_mean


def evaluate(
    clip: str | os.PathLike[str],
    *,
    gap: int = 9,
    models: Models = ("rdvfi-s", "dis", "blend"),
    start: int = 0,
    pairs: int | None = None,
    max_size: int | None = None,
    skip_cuts: bool | None = None,
    metrics: Sequence[str] = DEFAULT,
    perceptual: bool = False,
    group_by: Sequence[str] = (),
    ablate: bool = False,
    cost: bool = False,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    on_window: Callable[[], None] | None = None,
    observe: Observer | None = None,
) -> Report:
    """Measure methods against the true frames of a clip.

    Frames ``start, start + gap, start + 2 gap, ...`` are the inputs; all frames between are made
    by each method and compared with the true ones.

    Args:
        clip: Video file, folder of images, or a set of generated scenes: ``"procedural"`` (turns
            and zooms), ``"procedural-limbs"``, ``"laboratory-determined"`` or
            ``"laboratory-undetermined"`` (`rdvfi.evaluation.laboratory`).
        gap: Distance between input frames.
        models: Names (see `rdvfi.evaluation.methods`), methods or models; or a mapping from what they are
            called in the report: ``{"mine": model, "theirs": other}``.
        start: Number of the first input frame (of the first scene of a procedural set).
        pairs: Number of input pairs, from the start; all by default.
        max_size: Longest side of the frames; larger ones are reduced first.
        skip_cuts: Leave out pairs between which the scene changes; by default in clips of more
            than 1,000 frames.
        metrics: Names of metrics; see `rdvfi.evaluation.metrics`. One that lacks a package or the
            weights of its network is named in ``Report.unavailable``.
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
        ValueError: If it cannot be read or is too short, if a name is unknown, or if ``ablate`` is
            asked of a model without the parts that it replaces.
        Exception: What the methods raised, if every one of them failed; one that fails beside
            others is left out, and its score says why.
    """
    return _evaluated(
        clip_windows(clip, gap=gap, start=start, pairs=pairs, max_size=max_size),
        title=str(clip) if _is_set(clip) else Path(clip).name,
        gap=gap,
        models=models,
        skip_cuts=_is_long(clip) if skip_cuts is None else skip_cuts,
        metrics=_with_perceptual(metrics, perceptual),
        group_by=group_by,
        ablate=ablate,
        cost=cost,
        device=device,
        dtype=dtype,
        on_window=on_window,
        observe=observe,
    )


def evaluate_protocol(
    protocol: str | Protocol,
    root: str | os.PathLike[str],
    *,
    gap: int | None = None,
    models: Models = ("rdvfi-s", "dis", "blend"),
    pairs: int | None = None,
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
    """Measure methods by a published protocol, on a copy of its set of clips.

    Args:
        protocol: Name of a bundled protocol, a YAML file (`rdvfi.evaluation.dataset_protocol`), or one.
        root: Folder of the copy. It must be whole.
        gap: Distance between input frames, for the protocol ``folder``; the others state it.
        pairs: Take only this many pairs, from the start; then figures compare with nothing published.
        metrics: Names of metrics, instead of those of the protocol.

    The other arguments are those of `evaluate`.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If there is no such protocol, or the copy is not whole or a file is damaged; it is named.
        Exception: As in `evaluate`.
    """
    chosen = choose_protocol(protocol, gap)
    return _evaluated(
        windows_of(chosen, Path(root), pairs=pairs),
        title=chosen.title,
        gap=chosen.gap,
        models=models,
        skip_cuts=False,
        metrics=_with_perceptual(chosen.metrics if metrics is None else metrics, perceptual),
        group_by=group_by,
        ablate=ablate,
        cost=cost,
        device=device,
        dtype=dtype,
        on_window=on_window,
        observe=observe,
    )


def choose_protocol(protocol: str | Protocol, gap: int | None = None) -> Protocol:
    """The protocol of a name or file; ``gap`` is for ``folder``, which has none of its own.

    Raises:
        ValueError: If there is none, or ``gap`` is given with another protocol.
    """
    chosen = load_protocol(protocol) if isinstance(protocol, str) else protocol
    if gap is None:
        return chosen
    if chosen.name != "folder":
        raise ValueError(f"gap is {gap}; the protocol {chosen.name} has a gap of its own, {chosen.gap}")
    return chosen.with_gap(gap)


def _with_perceptual(metrics: Sequence[str], perceptual: bool) -> list[str]:
    return [*metrics, *(name for name in PERCEPTUAL if perceptual and name not in metrics)]


def _evaluated(
    source: Iterator[EvaluationWindow],
    *,
    title: str,
    gap: int,
    models: Models,
    skip_cuts: bool,
    metrics: Sequence[str],
    group_by: Sequence[str],
    ablate: bool,
    cost: bool,
    device: str | torch.device,
    dtype: torch.dtype,
    on_window: Callable[[], None] | None,
    observe: Observer | None,
) -> Report:
    where = usable_device(device)
    methods = create_methods(models, device=where, dtype=dtype)
    ours = [method for method in methods if method.model is not None]
    if ablate and not ours:
        raise ValueError("nothing to ablate: none of the methods is one of our models")
    replaced = [variant for method in ours for variant in ablations(method)] if ablate else []
    measured = measure(
        source,
        [*methods, *replaced],
        device=where,
        metrics=metrics,
        skip_cuts=skip_cuts,
        on_window=on_window,
        observe=observe,
        describe=describer(group_by),
        cost_dtype=str(dtype).removeprefix("torch.") if cost else None,
    )
    return Report(
        clip=title,
        gap=gap,
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


def clip_windows(
    clip: str | os.PathLike[str],
    *,
    gap: int,
    start: int = 0,
    pairs: int | None = None,
    max_size: int | None = None,
) -> Iterator[EvaluationWindow]:
    """Windows of a clip, or of a procedural set; arguments as for `evaluate`."""
    if _is_set(clip):
        if max_size is not None:
            raise ValueError("max_size does not apply to procedural sets, which are 448x256")
        return procedural_windows(gap, name=str(clip), start=start, pairs=pairs)
    if max_size is not None and max_size < 16:
        raise ValueError(f"max_size is {max_size} pixels; it must be at least 16")
    opened = open_clip(clip)
    if len(opened) - start <= gap:
        raise ValueError(
            f"{clip} has {len(opened)} frames; from frame {start} at a gap of {gap} "
            f"at least {start + gap + 1} are needed"
        )
    frames = opened.frames(start)
    reduced = frames if max_size is None else (_reduced(frame, max_size) for frame in frames)
    return windows(reduced, gap, start=start, pairs=pairs)


def count_windows(clip: str | os.PathLike[str], *, gap: int, start: int = 0, pairs: int | None = None) -> int:
    """How many windows `evaluate` will look at."""
    if _is_set(clip):
        return scene_count(str(clip)) if pairs is None else pairs
    whole = max(0, (len(open_clip(clip)) - 1 - start) // gap)
    return whole if pairs is None else min(whole, pairs)


def _is_long(clip: str | os.PathLike[str]) -> bool:
    return not _is_set(clip) and len(open_clip(clip)) > LONG_CLIP


def _reduced(picture: Picture, max_size: int) -> Picture:
    """The picture with its longer side reduced to ``max_size``, by averaging areas."""
    import cv2

    h, w = picture.shape[:2]
    scale = max_size / max(h, w)
    if scale >= 1.0:
        return picture
    return cv2.resize(picture, (round(w * scale), round(h * scale)), interpolation=cv2.INTER_AREA)


def _is_set(clip: str | os.PathLike[str]) -> bool:
    """Whether it names a procedural set; if it is neither that nor a path, say so."""
    if str(clip) in scene_sets():
        return True
    if not Path(clip).exists():
        raise FileNotFoundError(f"no such clip: {clip}{did_you_mean(str(clip), scene_sets())}")
    return False

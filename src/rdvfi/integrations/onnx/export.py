"""Export of both stages of a model to ONNX.

``estimate.onnx`` takes two frames of any size and gives the motion between them, as the tensors that
rendering reads; ``render.onnx`` takes the frames, these tensors and any number of times and gives the new frames.
The motion size is fixed on export, for the frame size that the files are meant for, since the grids of the
coarse flow depend on it. Frames of other sizes are shrunk to it.

A stage is traced by `torch.export` within `Substitutes`, where complex numbers are pairs of real ones
(`rdvfi.integrations.onnx.complex_pairs`), and torch's own exporter translates the rest.
"""

import importlib.util
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from rdvfi import _inputs
from rdvfi.content.cpu_shortcuts import fixed_shapes
from rdvfi.geometry import MotionSize, choose_motion_size
from rdvfi.integrations.onnx.branches import draw_pair
from rdvfi.integrations.onnx.motion_tensors import named_tensors, replace_tensors
from rdvfi.integrations.onnx.substitutes import NotExportable, Substitutes
from rdvfi.interfaces import Motion
from rdvfi.interpolator import Interpolator

OPSET = 20
"""The first operator set whose GridSample has torch's modes and results."""
MIN_SIDE, MAX_SIDE = 128, 16384
"""Limits of height and width of a frame, in pixels."""
MAX_TIMES = 1024
_MAX_WEIGHT_BYTES = 2**31 - 2**20
"""An ONNX file holds at most two gibibytes."""

ESTIMATE, RENDER = "estimate.onnx", "render.onnx"
_SIDES = "height", "width"


def export_onnx(
    model: Interpolator,
    folder: str | os.PathLike[str],
    *,
    size: tuple[int, int] = (720, 1280),
    seed: int = 0,
    overwrite: bool = False,
) -> tuple[Path, Path]:
    """Write ``estimate.onnx`` and ``render.onnx``: opset 20, one pair at a time, dynamic height, width and times.

    Args:
        model: A model on the CPU.
        folder: Output folder; created if needed.
        size: Height and width of the frames that the files are meant for; they determine the motion size.
            Input frames must be at least as large as the motion size, and 128 pixels each way.
        seed: Seed of the noise, which becomes a constant of the file.
        overwrite: Replace existing files.

    Returns:
        The paths of both files.

    Raises:
        NotExportable: If ONNX cannot express the model; nothing is written.
        FileExistsError: If a file exists already and ``overwrite`` is off.
        ImportError: If the extra ``onnx`` is not installed.
        ValueError: If ``size`` or the model's device is unsupported.
    """
    _check_arguments(model, size)
    target = Path(folder)
    files = target / ESTIMATE, target / RENDER
    for file in files:
        if file.exists() and not overwrite:
            raise FileExistsError(f"{file} exists already; overwrite replaces it")
    fixed = _FixedMotionSize.from_model(model, size)
    with torch.no_grad(), fixed_shapes(), _one_line_errors(model):
        programs = _export_stages(fixed, seed)
    target.mkdir(parents=True, exist_ok=True)
    height, width = fixed.motion_size
    metadata = {"rdvfi": version("rdvfi"), "seed": seed, "motion_height": height, "motion_width": width}
    for program, file in zip(programs, files, strict=True):
        program.model.metadata_props.update({key: str(value) for key, value in metadata.items()})
        _save_program(program, file)
    return files


def _check_arguments(model: Interpolator, size: tuple[int, int]) -> None:
    for name in ("onnx", "onnxscript"):
        if importlib.util.find_spec(name) is None:
            raise ImportError(f"writing ONNX needs the package {name}: pip install 'rdvfi[onnx]'")
    if not all(isinstance(side, int) and 16 <= side <= MAX_SIDE for side in size):
        raise ValueError(f"size is {size}; expected height and width, from 16 to {MAX_SIDE} pixels")
    if model.device.type != "cpu":
        raise ValueError(f"the model is on {model.device}; a model on the CPU is expected")
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    if weights > _MAX_WEIGHT_BYTES:
        raise NotExportable(
            f"{model} cannot be exported: its weights take {weights / 2**30:.1f} GiB, and a file of ONNX holds 2 GiB"
        )


class _FixedMotionSize(Interpolator):
    """The stages of a model with one motion size for frames of every size."""

    motion_size: tuple[int, int]

    @classmethod
    def from_model(cls, model: Interpolator, size: tuple[int, int]) -> "_FixedMotionSize":
        """The model with the motion size for frames of ``size`` (height, width)."""
        fixed = cls(model.generator, model.trajectory, model.renderer, motion_area=model.motion_area)
        multiple = model.generator.size_multiple
        fixed.motion_size = choose_motion_size(*size, area=model.motion_area, multiple=multiple).motion
        fixed.content_rules = model.content_rules
        return fixed.eval()

    def _size(self, images: Tensor) -> MotionSize:
        return MotionSize((images.shape[-2], images.shape[-1]), self.motion_size)


class _Estimate(nn.Module):
    """The motion of a pair as a list of tensors."""

    def __init__(self, model: _FixedMotionSize, seed: int, record: Callable[[Motion], object]) -> None:
        super().__init__()
        self.model, self.record = model, record  # tracing resets attributes that a module sets itself
        shape = model.generator.noise_shape(1, *model.motion_size)
        self.register_buffer("noise", _inputs.draw_noise(shape, seed=seed, generator=None, noise=None))

    def forward(self, img0: Tensor, img1: Tensor) -> list[Tensor]:
        with Substitutes():
            motion = self.model._compute_motion(img0, img1, self.noise)  # pyright: ignore[reportArgumentType]
        self.record(motion)
        return list(named_tensors(motion).values())


class _Render(nn.Module):
    """Frames along a motion whose tensors are inputs, except those that are equal for every pair."""

    def __init__(self, model: _FixedMotionSize, motion: Motion) -> None:
        super().__init__()
        self.model, self.motion = model, motion

    def forward(self, img0: Tensor, img1: Tensor, timesteps: Tensor, tensors: dict[str, Tensor]) -> Tensor:
        motion: Motion = replace_tensors(self.motion, lambda name, x: tensors.get(name, x))
        if motion.content is not None:  # the size of the frames is not among the tensors
            bars = replace(motion.content.bars, size=(img0.shape[-2], img0.shape[-1]))
            motion = replace(motion, content=replace(motion.content, bars=bars))
        with Substitutes():
            return draw_pair(self.model.renderer, img0, img1, motion, timesteps)


def _export_stages(model: _FixedMotionSize, seed: int) -> tuple[Any, Any]:
    """Both stages in ONNX; the outputs of the first are the motion tensors that the second reads."""
    smallest = [max(side + 1, MIN_SIDE) for side in model.motion_size]
    shape = {axis: Dim(name, min=side, max=MAX_SIDE) for axis, name, side in zip((2, 3), _SIDES, smallest, strict=True)}
    # These sizes, and the sampling steps of the bar search along them, equal no other size in the graph: the tracer
    # takes equal example sizes for sizes that are always equal.
    images = tuple(
        torch.zeros(1, 3, max(model.motion_size[0] + 37, 229), max(model.motion_size[1] + 59, 379)) for _ in range(2)
    )
    motions: list[Motion] = []
    traced = _trace_stage(_Estimate(model, seed, motions.append), images, (shape, shape))
    names = list(named_tensors(motions[-1]))
    estimate = _translate_to_onnx(traced, ["img0", "img1"], names)
    outputs = zip(names, estimate.model.graph.outputs, strict=True)
    constants = {name: torch.from_numpy(x.const_value.numpy().copy()) for name, x in outputs if x.is_initializer()}
    motion = replace_tensors(motions[-1], lambda name, x: constants.get(name, torch.zeros(x.shape, dtype=x.dtype)))
    tensors = {name: x for name, x in named_tensors(motion).items() if name not in constants}
    shapes = (shape, shape, {0: Dim("times", max=MAX_TIMES)}, {name: {} for name in tensors})
    traced = _trace_stage(_Render(model, motion), (*images, torch.linspace(0.2, 0.8, 3), tensors), shapes)
    render = _translate_to_onnx(traced, ["img0", "img1", "timesteps", *tensors], ["frames"])
    _remove_unread_tensors(estimate, render)
    return estimate, render


def _trace_stage(stage: nn.Module, inputs: tuple[Any, ...], shapes: tuple[Any, ...]) -> Any:
    """A stage as a graph of aten operators; assumptions on sizes become checks at run time."""
    return torch.export.export(
        stage, inputs, strict=False, dynamic_shapes=shapes, prefer_deferred_runtime_asserts_over_guards=True
    )


def _translate_to_onnx(traced: Any, inputs: Sequence[str], outputs: Sequence[str]) -> Any:
    """A traced stage in ONNX, with constants folded and common subexpressions merged.

    The exporter's own optimization also searches for patterns, which takes 15 minutes in a graph of this size.
    """
    import onnx_ir  # pyright: ignore[reportMissingImports]
    from onnx_ir.passes import common  # pyright: ignore[reportMissingImports]
    from onnxscript import optimizer  # pyright: ignore[reportMissingImports]

    program: Any = torch.onnx.export(
        traced,
        input_names=inputs,
        output_names=outputs,
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
        optimize=False,
    )
    common.InlinePass()(program.model)
    optimizer.fold_constants(program.model, onnx_shape_inference=True)
    for step in (
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedFunctionsPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        common.RemoveUnusedNodesPass(),
    ):
        step(program.model)
    for node in onnx_ir.traversal.RecursiveGraphIterator(program.model.graph):
        if node.op_type == "GridSample":  # within a loop the exporter keeps the name of opset 16
            node.attributes["mode"] = onnx_ir.AttrString("mode", "linear")
    return program


def _remove_unread_tensors(estimate: Any, render: Any) -> None:
    """Remove motion tensors that rendering does not read."""
    from onnxscript import optimizer  # pyright: ignore[reportMissingImports]

    read = [value for value in render.model.graph.inputs if value.uses() or value.name in ("img0", "img1", "timesteps")]
    render.model.graph.inputs[:] = read
    names = {value.name for value in read}
    estimate.model.graph.outputs[:] = [value for value in estimate.model.graph.outputs if value.name in names]
    optimizer.remove_unused_nodes(estimate.model)


def _save_program(program: Any, file: Path) -> None:
    """Save under a temporary name first: a file of this name is always complete."""
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".onnx") as folder:
        partial = Path(folder) / file.name
        program.save(str(partial), external_data=False)
        partial.replace(file)


@contextmanager
def _one_line_errors(model: Interpolator) -> Iterator[None]:
    """Turn every failure into a `NotExportable` of one line that names the model, without warnings."""
    logger = logging.getLogger("onnx_ir")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's, about its internals
            yield
    except NotExportable as error:
        raise NotExportable(f"{model} cannot be exported: {error}") from error
    except Exception as error:
        line = next((line for line in str(error).splitlines() if line.strip()), "")
        raise NotExportable(f"{model} cannot be exported: {type(error).__name__}: {line}") from error
    finally:
        logger.setLevel(level)

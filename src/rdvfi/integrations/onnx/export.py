"""Export of both stages of a model to ONNX.

``estimate.onnx`` takes two frames of any size and gives the motion between them, as the tensors that
drawing reads; ``render.onnx`` takes the frames, these tensors and any number of times and gives frames.
The motion size is chosen when the files are written, by the size of the frames that they are meant for,
since the grids of the coarse flow follow from it. Frames of every other size are shrunk to it.

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
from rdvfi.integrations.onnx.motion_tensors import named_tensors, with_tensors
from rdvfi.integrations.onnx.substitutes import NotExportable, Substitutes
from rdvfi.interfaces import Motion
from rdvfi.interpolator import Interpolator

OPSET = 20
"""The first set of operators whose GridSample is that of torch by name and by numbers."""
SHORTEST, LONGEST = 128, 16384
"""Pixels along a side of a frame."""
MOST_TIMES = 1024
_LARGEST = 2**31 - 2**20
"""Bytes of weights: a file of ONNX holds two gibibytes."""

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
        model: On the CPU.
        folder: Where to; made if needed.
        size: Height and width of the frames that it is meant for; the motion size follows from them.
            Frames that are run must be at least of the motion size, and of 128 pixels each way.
        seed: Of the noise, which becomes a constant of the file.
        overwrite: Replace files that are there.

    Returns:
        Both files.

    Raises:
        NotExportable: If the model holds what ONNX cannot; nothing is written.
        FileExistsError: If a file is there already.
        ImportError: If the extra ``onnx`` is not installed.
        ValueError: If an argument is not of the range expected.
    """
    _check(model, size)
    target = Path(folder)
    files = target / ESTIMATE, target / RENDER
    for file in files:
        if file.exists() and not overwrite:
            raise FileExistsError(f"{file} exists already; overwrite replaces it")
    fixed = _AtMotionSize.of(model, size)
    with torch.no_grad(), fixed_shapes(), _in_one_line(model):
        programs = _programs(fixed, seed)
    target.mkdir(parents=True, exist_ok=True)
    described = {"rdvfi": version("rdvfi"), "seed": seed, "motion_height": fixed.at[0], "motion_width": fixed.at[1]}
    for program, file in zip(programs, files, strict=True):
        program.model.metadata_props.update({key: str(value) for key, value in described.items()})
        _write(program, file)
    return files


def _check(model: Interpolator, size: tuple[int, int]) -> None:
    for name in ("onnx", "onnxscript"):
        if importlib.util.find_spec(name) is None:
            raise ImportError(f"writing ONNX needs the package {name}: pip install 'rdvfi[onnx]'")
    if not all(isinstance(side, int) and 16 <= side <= LONGEST for side in size):
        raise ValueError(f"size is {size}; expected height and width, from 16 to {LONGEST} pixels")
    if model.device.type != "cpu":
        raise ValueError(f"the model is on {model.device}; a model on the CPU is expected")
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    if weights > _LARGEST:
        raise NotExportable(
            f"{model} cannot be exported: its weights take {weights / 2**30:.1f} GiB, and a file of ONNX holds 2 GiB"
        )


class _AtMotionSize(Interpolator):
    """The stages of a model, with frames of every size shrunk to one."""

    at: tuple[int, int]

    @classmethod
    def of(cls, model: Interpolator, size: tuple[int, int]) -> "_AtMotionSize":
        """A model whose motion size is that for frames of this size."""
        fixed = cls(model.generator, model.trajectory, model.renderer, motion_area=model.motion_area)
        multiple = model.generator.size_multiple
        fixed.at = choose_motion_size(*size, area=model.motion_area, multiple=multiple).motion
        fixed.content_rules = model.content_rules
        return fixed.eval()

    def _size(self, images: Tensor) -> MotionSize:
        return MotionSize((images.shape[-2], images.shape[-1]), self.at)


class _Estimate(nn.Module):
    """The motion of a pair as a list of tensors."""

    def __init__(self, model: _AtMotionSize, seed: int, keep: Callable[[Motion], object]) -> None:
        super().__init__()
        self.model, self.keep = model, keep  # tracing undoes what a module notes of itself
        shape = model.generator.noise_shape(1, *model.at)
        self.register_buffer("noise", _inputs.draw_noise(shape, seed=seed, generator=None, noise=None))

    def forward(self, img0: Tensor, img1: Tensor) -> list[Tensor]:
        with Substitutes():
            motion = self.model._compute_motion(img0, img1, self.noise)  # pyright: ignore[reportArgumentType]
        self.keep(motion)
        return list(named_tensors(motion).values())


class _Render(nn.Module):
    """Frames along a motion whose tensors are given, but for those that are the same for every pair."""

    def __init__(self, model: _AtMotionSize, motion: Motion) -> None:
        super().__init__()
        self.model, self.motion = model, motion

    def forward(self, img0: Tensor, img1: Tensor, timesteps: Tensor, tensors: dict[str, Tensor]) -> Tensor:
        motion: Motion = with_tensors(self.motion, lambda name, x: tensors.get(name, x))
        if motion.content is not None:  # the size of the frames is not among the tensors
            bars = replace(motion.content.bars, size=(img0.shape[-2], img0.shape[-1]))
            motion = replace(motion, content=replace(motion.content, bars=bars))
        with Substitutes():
            return self.model._compute_frames(img0, img1, motion, timesteps)


def _programs(model: _AtMotionSize, seed: int) -> tuple[Any, Any]:
    """Both stages in ONNX; the first gives just the tensors that the second reads."""
    least = [max(side + 1, SHORTEST) for side in model.at]
    shape = {axis: Dim(name, min=side, max=LONGEST) for axis, name, side in zip((2, 3), _SIDES, least, strict=True)}
    # Sizes that are equal to no other, as are the steps in which bars are looked for along them: what is equal in these
    # would be taken for equal always.
    images = tuple(torch.zeros(1, 3, max(model.at[0] + 37, 229), max(model.at[1] + 59, 379)) for _ in range(2))
    made: list[Motion] = []
    traced = _traced(_Estimate(model, seed, made.append), images, (shape, shape))
    names = list(named_tensors(made[-1]))
    estimate = _translated(traced, ["img0", "img1"], names)
    given = zip(names, estimate.model.graph.outputs, strict=True)
    fixed = {name: torch.from_numpy(x.const_value.numpy().copy()) for name, x in given if x.is_initializer()}
    motion = with_tensors(made[-1], lambda name, x: fixed.get(name, torch.zeros(x.shape, dtype=x.dtype)))
    tensors = {name: x for name, x in named_tensors(motion).items() if name not in fixed}
    shapes = (shape, shape, {0: Dim("times", max=MOST_TIMES)}, {name: {} for name in tensors})
    drawn = _traced(_Render(model, motion), (*images, torch.linspace(0.2, 0.8, 3), tensors), shapes)
    render = _translated(drawn, ["img0", "img1", "timesteps", *tensors], ["frames"])
    _keep_what_is_read(estimate, render)
    return estimate, render


def _traced(stage: nn.Module, inputs: tuple[Any, ...], shapes: tuple[Any, ...]) -> Any:
    """A stage as a graph of aten operators; what it cannot prove of sizes is left to who runs it."""
    return torch.export.export(
        stage, inputs, strict=False, dynamic_shapes=shapes, prefer_deferred_runtime_asserts_over_guards=True
    )


def _translated(traced: Any, inputs: Sequence[str], outputs: Sequence[str]) -> Any:
    """A traced stage in ONNX, without what is computed of constants alone or twice.

    The exporter's own optimization also looks for patterns, which takes a quarter of an hour in a graph of this size.
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
        if node.op_type == "GridSample":  # within a loop it keeps the word of opset 16
            node.attributes["mode"] = onnx_ir.AttrString("mode", "linear")
    return program


def _keep_what_is_read(estimate: Any, render: Any) -> None:
    """Drop the tensors of the motion that drawing does not read."""
    from onnxscript import optimizer  # pyright: ignore[reportMissingImports]

    read = [value for value in render.model.graph.inputs if value.uses() or value.name in ("img0", "img1", "timesteps")]
    render.model.graph.inputs[:] = read
    names = {value.name for value in read}
    estimate.model.graph.outputs[:] = [value for value in estimate.model.graph.outputs if value.name in names]
    optimizer.remove_unused_nodes(estimate.model)


def _write(program: Any, file: Path) -> None:
    """The file appears under its name only when it is complete."""
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".onnx") as folder:
        partial = Path(folder) / file.name
        program.save(str(partial), external_data=False)
        partial.replace(file)


@contextmanager
def _in_one_line(model: Interpolator) -> Iterator[None]:
    """What cannot be traced or translated ends as one line that names the model; nothing else is said."""
    told = logging.getLogger("onnx_ir")
    level = told.level
    told.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter, about its own insides
            yield
    except NotExportable as error:
        raise NotExportable(f"{model} cannot be exported: {error}") from error
    except Exception as error:
        line = next((line for line in str(error).splitlines() if line.strip()), "")
        raise NotExportable(f"{model} cannot be exported: {type(error).__name__}: {line}") from error
    finally:
        told.setLevel(level)

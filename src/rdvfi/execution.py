"""How the computation of a model is executed: eagerly, compiled, or as CUDA graphs; and in which precision.

`ExecutableModel` is the base of `rdvfi.Interpolator`, which defines the two computations, ``estimate`` and ``render``.
It knows the device of the model, and runs the computations eagerly, compiled, or by replaying recorded graphs.
"""

from abc import abstractmethod
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from rdvfi.content.cpu_shortcuts import fixed_shapes
from rdvfi.graphs import Recorder
from rdvfi.interfaces import KeyframeGenerator, Renderer, TrajectoryModel
from rdvfi.saved_models.staged_model import StagedModel
from rdvfi.saved_models.weight_files import STAGES

Model = TypeVar("Model", bound="ExecutableModel")

MIN_REPEATED_BLOCKS = 8
"""Minimum number of equal blocks in a row for which the block is compiled once, instead of the whole network."""


class ExecutableModel(StagedModel):
    """Three stages whose computations can be compiled or recorded; for the arguments see `rdvfi.Interpolator`."""

    _anchor: Tensor

    def __init__(
        self, generator: KeyframeGenerator, trajectory: TrajectoryModel, renderer: Renderer, *, motion_area: int
    ) -> None:
        super().__init__(generator, trajectory, renderer, motion_area=motion_area)
        self._compiled: dict[str, Callable[..., Any]] = {}
        self._has_compiled_blocks = False
        self._recorder: Recorder | None = None
        self.register_load_state_dict_post_hook(_forget_graphs_after_loading)
        # Gives the device of the model even if no stage has a parameter.
        self.register_buffer("_anchor", torch.empty(0), persistent=False)

    @abstractmethod
    def _computations(self) -> dict[str, Callable[..., Any]]:
        """The computations by name: pure tensor code, each of which compiles as one graph."""

    def compile(  # pyright: ignore[reportIncompatibleMethodOverride]
        self: Model,
        *,
        backend: str = "inductor",
        mode: str | None = None,
        dynamic: bool | None = None,
        fullgraph: bool = True,
    ) -> Model:
        """Compile the computations of `estimate` and `render` with `torch.compile`.

        In a large network that repeats one block (`repeated_blocks`) only the block is compiled, once,
        and the code around it runs eagerly: compiling thirty blocks as a whole would take minutes.

        Both compile at their first call, and again for other sizes and numbers of times. Checks of
        the input are not compiled. Inductor needs a C++ compiler on the CPU and Triton on CUDA. Compiled
        code is not saved, and a copy of the model is not compiled.

        Args:
            backend: A backend of `torch.compile`.
            mode: Mode of inductor: "max-autotune", or "reduce-overhead" for CUDA graphs, whose results
                the next call overwrites. Not yet run on a GPU.
            dynamic: Whether graphs are compiled for any size; by default, when a size changes.
            fullgraph: Refuse components that do not compile as one graph, instead of running parts of them in Python.

        Returns:
            This model.
        """
        options = {"backend": backend, "mode": mode, "dynamic": dynamic, "fullgraph": fullgraph}
        blocks, computations = repeated_blocks(self.generator), self._computations()
        for block in blocks:
            block.compile(**{**options, "dynamic": False})
        whole = [name for name in computations if name != "estimate" or not blocks]
        self._compiled = {name: torch.compile(computations[name], **options) for name in whole}
        self._has_compiled_blocks = bool(blocks)
        self._forget_graphs()
        return self

    def optimize(self: Model, *, graphs: bool = True, reuse_results: bool = False) -> Model:
        """Make inference faster without a compiler; returns this model.

        Each stage computes its constants once; results stay the same up to rounding. On CUDA, `estimate` and
        `render` are recorded as CUDA graphs, one per size, type and number of times, at the first such call, and
        replayed afterwards: the results are identical, without the overhead of launching kernels. A computation that
        cannot be recorded is named in a warning and runs eagerly. See `rdvfi.graphs`.

        ``train()`` undoes it. Moving the model, or loading weights, discards the graphs only.

        Args:
            graphs: Record CUDA graphs.
            reuse_results: Let the next call of the same kind overwrite results, instead of copying
                them: for loops that use a motion, or frames, only before the next call.

        Raises:
            RuntimeError: If the model is in training mode.
        """
        if self.training:
            raise RuntimeError("optimize() is for inference; call model.eval().requires_grad_(False) before")
        self._recorder = Recorder(reuse_results=reuse_results) if graphs else None
        for name in STAGES.values():
            prepare = getattr(getattr(self, name), "optimize", None)
            if prepare is not None:
                prepare()
        return self

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return self._anchor.device

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type that the networks compute in."""
        floats = (p.dtype for p in self.parameters() if p.is_floating_point())
        return next(floats, torch.float32)

    def train(self: Model, mode: bool = True) -> Model:
        """Set training or eval mode; training mode discards what `optimize` prepared."""
        if mode:
            self._recorder = None
        super().train(mode)
        return self

    def _run(self, name: str, *args: Any) -> Any:
        eager = self._computations()[name]
        function = self._compiled.get(name, eager)
        if self._recorder is None or not self._can_record(args[:2]):
            return function(*args)
        with torch.cuda.device_of(args[0]), fixed_shapes():
            settings, watched = tuple(self._settings()), function is eager and not self._has_compiled_blocks
            return self._recorder.run(name, function, *args, watched=watched, settings=settings)

    def _settings(self) -> Iterator[Hashable]:
        """All plain attributes of the model and its stages: a graph is valid for these values only."""
        for module in (self, *(getattr(self, name) for name in STAGES.values())):
            yield tuple(item for item in vars(module).items() if isinstance(item[1], int | float | str))

    def _can_record(self, images: Sequence[Tensor]) -> bool:
        """Whether graphs can be recorded now: not on a CPU, within another graph, or for gradients."""
        if self.device.type != "cuda" or torch.compiler.is_compiling() or torch.cuda.is_current_stream_capturing():
            return False
        return not (torch.is_grad_enabled() and any(x.requires_grad for x in (*images, *self.parameters())))

    def _forget_graphs(self) -> None:
        if self._recorder is not None:
            self._recorder.clear()

    def __getstate__(self) -> dict[str, Any]:
        """The state of a copy, which has no compiled code or graphs: these belong to this model."""
        return {**super().__getstate__(), "_compiled": {}, "_recorder": None}

    def _apply(self: Model, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Model:
        """Move or cast the module, as torch calls it for each; on the CPU the networks stay float32."""
        self._forget_graphs()

        def convert(tensor: Tensor) -> Any:
            moved = fn(tensor)
            half = moved.dtype in (torch.float16, torch.bfloat16)
            return moved.float() if half and moved.device.type == "cpu" else moved

        return super()._apply(convert, recurse)


def repeated_blocks(stage: nn.Module) -> list[nn.Module]:
    """Blocks of a stage that are in rows of at least `MIN_REPEATED_BLOCKS` blocks of one class."""
    rows = [row for row in stage.modules() if isinstance(row, nn.ModuleList) and len(row) >= MIN_REPEATED_BLOCKS]
    return [block for row in rows if len({type(block) for block in row}) == 1 for block in row]


def _forget_graphs_after_loading(module: nn.Module, _: Any) -> None:
    assert isinstance(module, ExecutableModel)
    module._forget_graphs()

"""How the computation of a model is executed: eagerly, compiled, or as CUDA graphs; and in which precision.

`Executed` stands between the three stages and the data flow through them (`rdvfi.Interpolator`): it
knows where the model is, and runs its two pieces of work, ``estimate`` and ``render``, by what was
compiled or recorded of them.
"""

from abc import abstractmethod
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from rdvfi.content.cpu_shortcuts import fixed_shapes
from rdvfi.graphs import Recorder
from rdvfi.interfaces import KeyframeGenerator, Renderer, TrajectoryModel
from rdvfi.saved_models.staged_model import Staged
from rdvfi.saved_models.weight_files import STAGES

Model = TypeVar("Model", bound="Executed")

REPEATED = 8
"""Blocks of one kind from which on they are compiled as one, not as parts of a whole."""


class Executed(Staged):
    """Three stages, and how their work is executed.

    Args:
        generator: Makes keyframes between two small frames.
        trajectory: Turns keyframes into a continuous motion.
        renderer: Draws full-size frames along it.
        motion_area: Pixels of the small frames, about; larger frames are shrunk to it.
    """

    _anchor: Tensor

    def __init__(
        self, generator: KeyframeGenerator, trajectory: TrajectoryModel, renderer: Renderer, *, motion_area: int
    ) -> None:
        super().__init__(generator, trajectory, renderer, motion_area=motion_area)
        self._compiled: dict[str, Callable[..., Any]] = {}
        self._has_compiled_blocks = False
        self._recorder: Recorder | None = None
        self.register_load_state_dict_post_hook(_weights_loaded)
        # Says where the model is even if no stage has a parameter.
        self.register_buffer("_anchor", torch.empty(0), persistent=False)

    @abstractmethod
    def _work(self) -> dict[str, Callable[..., Any]]:
        """The pieces of work, pure tensor code that compiles whole, by name."""

    def compile(  # pyright: ignore[reportIncompatibleMethodOverride]
        self: Model,
        *,
        backend: str = "inductor",
        mode: str | None = None,
        dynamic: bool | None = None,
        fullgraph: bool = True,
    ) -> Model:
        """Compile the work of `estimate` and of `render` with `torch.compile`; nothing else does.

        Of a large network that repeats one block (`repeated_blocks`) the block is compiled, once for all,
        and what lies around it runs as it is: the whole of thirty blocks would take minutes.

        Both compile at their first call, and again for other sizes and numbers of times. Checks of
        the input stay outside. Inductor needs a C++ compiler on the CPU and Triton on CUDA. What
        is compiled is not saved, and a copy of the model is not compiled.

        Args:
            backend: A backend of `torch.compile`.
            mode: Of inductor: "max-autotune", or "reduce-overhead" for CUDA graphs, whose results
                the next call overwrites. Not yet run on a GPU.
            dynamic: Whether graphs are made for any size; by default, when a size changes.
            fullgraph: Refuse components that do not compile in one piece, instead of leaving
                parts of them to Python.

        Returns:
            This model.
        """
        options = {"backend": backend, "mode": mode, "dynamic": dynamic, "fullgraph": fullgraph}
        blocks, work = repeated_blocks(self.generator), self._work()
        for block in blocks:
            block.compile(**{**options, "dynamic": False})
        whole = [name for name in work if name != "estimate" or not blocks]
        self._compiled = {name: torch.compile(work[name], **options) for name in whole}
        self._has_compiled_blocks = bool(blocks)
        self._forget_graphs()
        return self

    def optimize(self: Model, *, graphs: bool = True, reuse_results: bool = False) -> Model:
        """Make inference fast without a compiler; returns itself.

        What is constant in inference is computed once, in every stage that can; results stay the same
        up to rounding. On CUDA `estimate` and `render` are recorded as CUDA graphs, one per size, type
        and number of times, at the first call that needs it, and replayed after that: the same results
        bit by bit, without the time that launching takes. What cannot be recorded is named in a warning
        and runs as before. See `rdvfi.graphs`.

        ``train()`` undoes it. Moving the model, or loading weights, forgets the graphs only.

        Args:
            graphs: Record CUDA graphs.
            reuse_results: Let the next call of the same kind overwrite results, instead of copying
                them: for loops that are done with a motion, or frames, before they ask for the next.

        Raises:
            RuntimeError: If the model is being trained.
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
        """Where the model is."""
        return self._anchor.device

    @property
    def dtype(self) -> torch.dtype:
        """The type that the networks compute in."""
        floats = (p.dtype for p in self.parameters() if p.is_floating_point())
        return next(floats, torch.float32)

    def train(self: Model, mode: bool = True) -> Model:
        """As of every module; training mode discards what `optimize` prepared."""
        if mode:
            self._recorder = None
        super().train(mode)
        return self

    def _run(self, name: str, *args: Any) -> Any:
        """Run a piece of work by its compiled or captured form, if there is one."""
        stage = self._work()[name]
        function = self._compiled.get(name, stage)
        if self._recorder is None or not self._records(args[:2]):
            return function(*args)
        with torch.cuda.device_of(args[0]), fixed_shapes():
            settings, watched = tuple(self._settings()), function is stage and not self._has_compiled_blocks
            return self._recorder.run(name, function, *args, watched=watched, settings=settings)

    def _settings(self) -> Iterator[Hashable]:
        """Every plain value that the model and its stages are set to: a graph holds for these alone."""
        for module in (self, *(getattr(self, name) for name in STAGES.values())):
            yield tuple(item for item in vars(module).items() if isinstance(item[1], int | float | str))

    def _records(self, images: Sequence[Tensor]) -> bool:
        """Whether graphs are recorded now: not on a CPU, within another graph, or for gradients."""
        if self.device.type != "cuda" or torch.compiler.is_compiling() or torch.cuda.is_current_stream_capturing():
            return False
        return not (torch.is_grad_enabled() and any(x.requires_grad for x in (*images, *self.parameters())))

    def _forget_graphs(self) -> None:
        if self._recorder is not None:
            self._recorder.clear()

    def __getstate__(self) -> dict[str, Any]:
        """A copy is not compiled or recorded: graphs belong to the model that they were made from."""
        return {**super().__getstate__(), "_compiled": {}, "_recorder": None}

    def _apply(self: Model, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Model:
        """Every move or cast of a module comes here; on the CPU the networks stay float32."""
        self._forget_graphs()

        def convert(tensor: Tensor) -> Any:
            moved = fn(tensor)
            half = moved.dtype in (torch.float16, torch.bfloat16)
            return moved.float() if half and moved.device.type == "cpu" else moved

        return super()._apply(convert, recurse)


def repeated_blocks(stage: nn.Module) -> list[nn.Module]:
    """Blocks of which a stage's networks hold at least `REPEATED` of one kind in a row."""
    rows = [row for row in stage.modules() if isinstance(row, nn.ModuleList) and len(row) >= REPEATED]
    return [block for row in rows if len({type(block) for block in row}) == 1 for block in row]


def _weights_loaded(module: nn.Module, _: Any) -> None:
    assert isinstance(module, Executed)
    module._forget_graphs()

"""Recording stages: what is replayed, when, and what cannot be; real graphs where a GPU is.

Without a GPU a stand-in records: a replay runs the function again and writes into the same results, as
a graph does.
"""

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import rdvfi
import toy
from rdvfi.content.cpu_shortcuts import fixed_shapes
from rdvfi.graph_watch import Watch, tensors_in
from rdvfi.graphs import Capture, Recorder
from rdvfi.types import map_tensors
from rdvfi.video import model_loading


class EagerCapture(Capture):
    """Records by running again; counts what was recorded and replayed."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def record(self, run: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        self.recorded += 1
        results = run()

        def replay() -> None:
            self.replayed += 1
            for own, new in zip(tensors_in(results), list(tensors_in(run())), strict=True):
                own.copy_(new)

        return replay, results

    def exclusive(self) -> AbstractContextManager[None]:
        return nullcontext()


@dataclass(frozen=True, eq=False)
class Pair:
    first: Tensor
    rest: dict[str, Tensor]
    factor: float = 2.0
    layer: nn.Module | None = None


def _double(pair: Pair, shift: float = 0.0) -> Pair:
    return Pair(pair.factor * pair.first + shift, {name: -x for name, x in pair.rest.items()}, pair.factor, pair.layer)


def _pair(size: int = 3, **more: Any) -> Pair:
    return Pair(torch.rand(size), {"a": torch.rand(2, size)}, **more)


def _are_equal(one: Any, other: Any) -> bool:
    return all(torch.equal(a, b) for a, b in zip(tensors_in(one), tensors_in(other), strict=True))


def test_a_stage_is_recorded_once_and_replayed_with_other_values() -> None:
    capture = EagerCapture()
    recorder = Recorder(capture)
    for index in range(4):
        pair = _pair()
        assert _are_equal(recorder.run("double", _double, pair, 1.0), _double(pair, 1.0))
        assert (capture.recorded, capture.replayed) == (1, index)
    assert len(recorder) == 1


@pytest.mark.parametrize("other", [_pair(4), _pair(factor=3.0), _pair(layer=nn.Identity())])
def test_sizes_values_and_modules_have_graphs_of_their_own(other: Pair) -> None:
    capture = EagerCapture()
    recorder = Recorder(capture)
    for pair in (_pair(), other, _pair(), other):
        assert _are_equal(recorder.run("double", _double, pair), _double(pair))
    assert (capture.recorded, capture.replayed) == (2, 2)
    recorder.run("double", _double, Pair(torch.rand(3).double(), {"a": torch.rand(2, 3)}))
    assert capture.recorded == 3


def test_no_module_takes_the_place_of_one_that_is_gone() -> None:
    capture = EagerCapture()
    recorder = Recorder(capture)
    for _ in range(4):
        recorder.run("double", _double, _pair(layer=nn.Identity()))
    assert capture.recorded == 4


def test_a_named_model_is_optimized_where_graphs_are(monkeypatch: pytest.MonkeyPatch) -> None:
    with toy.registered():
        built = toy.toy_model().eval().requires_grad_(False)
    monkeypatch.setattr(model_loading, "create_model", lambda *_, **__: built)
    for place, optimized in (("cpu", False), ("cuda", True)):
        monkeypatch.setattr(
            model_loading, "choose_placement", lambda *_, place=place: (torch.device(place), torch.float32)
        )
        assert model_loading.prepare_model("toy", None, None, allow_untrained=True) is built
        assert (built._recorder is not None) is optimized


def test_a_later_call_leaves_results_alone_unless_asked() -> None:
    for reuse in (False, True):
        recorder = Recorder(EagerCapture(), reuse_results=reuse)
        recorder.run("double", _double, _pair())
        kept = recorder.run("double", _double, _pair())
        before = kept.first.clone()
        recorder.run("double", _double, _pair())
        assert torch.equal(kept.first, before) is not reuse


def test_what_is_unused_for_longest_is_forgotten() -> None:
    capture = EagerCapture()
    recorder = Recorder(capture, limit=2)
    for size in (1, 2, 1, 3, 1, 2):  # 3 takes the place of 2, which comes back
        recorder.run("double", _double, _pair(size))
    assert capture.recorded == 4
    assert len(recorder) == 2
    recorder.clear()
    assert len(recorder) == 0


def test_what_a_stage_keeps_in_its_arguments_is_computed_in_every_replay() -> None:
    @dataclass(eq=False)
    class Kept:
        value: Tensor | None = None

    def stage(x: Tensor, kept: Kept) -> Tensor:
        if kept.value is None:
            kept.value = 2.0 * x
        return kept.value + 1.0

    recorder = Recorder(EagerCapture())
    for _ in range(3):
        x = torch.rand(4)
        assert torch.equal(recorder.run("stage", stage, x, Kept()), 2.0 * x + 1.0)
    assert len(recorder) == 1


def test_strides_of_arguments_do_not_matter() -> None:
    recorder = Recorder(EagerCapture())
    for x in (torch.rand(2, 3), torch.rand(3, 2).T, torch.rand(1, 3).expand(2, 3)):
        assert torch.equal(recorder.run("add", lambda y: y + 1.0, x), x + 1.0)


class _Opaque:
    pass


@pytest.mark.parametrize(
    ("stage", "reason"),
    [
        (lambda x: x * x.sum().item(), "_local_scalar_dense waits for a value"),
        (lambda x: x[x > 0.5], "size depends on values"),
        (lambda x: x * torch.tensor([1.0, 2.0]), "torch.tensor copies from the CPU"),
        (lambda x: (x, _Opaque()), "_Opaque is not made of tensors"),
    ],
)
def test_what_cannot_be_recorded_is_named_and_runs(
    monkeypatch: pytest.MonkeyPatch, stage: Callable[[Tensor], Any], reason: str
) -> None:
    monkeypatch.setattr("rdvfi.graphs.Watch", lambda: Watch("cpu"))
    recorder, x = Recorder(EagerCapture()), torch.tensor([0.25, 0.75])
    with pytest.warns(RuntimeWarning, match=f"stage runs without a CUDA graph: .*{reason}"):
        first = recorder.run("stage", stage, x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is said once
        second = recorder.run("stage", stage, x)
    assert _are_equal(first, stage(x))
    assert _are_equal(second, stage(x))
    assert len(recorder) == 0


def test_kinds_that_cannot_be_recorded_are_forgotten_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rdvfi.graphs.Watch", lambda: Watch("cpu"))
    recorder = Recorder(EagerCapture(), limit=2)
    with pytest.warns(RuntimeWarning, match="runs without a CUDA graph"):
        recorder.run("stage", lambda x: x.nonzero(), torch.ones(2))
    for size in range(3, 8):  # it is said once
        recorder.run("stage", lambda x: x.nonzero(), torch.ones(size))
    assert len(recorder._graphs) == 2


def test_what_is_prepared_at_the_first_call_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rdvfi.graphs.Watch", lambda: Watch("cpu"))
    prepared: list[Tensor] = []

    def stage(x: Tensor) -> Tensor:
        if not prepared:
            prepared.append(torch.tensor([1.0, 2.0]))
        return x * prepared[0]

    recorder = Recorder(EagerCapture())
    assert torch.equal(recorder.run("stage", stage, torch.ones(2)), prepared[0])
    assert len(recorder) == 1


def test_an_argument_of_unknown_make_is_named() -> None:
    with pytest.warns(RuntimeWarning, match="_Opaque"):
        assert Recorder(EagerCapture()).run("stage", lambda x, _: x, 1.0, _Opaque()) == 1.0


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("full"), RuntimeError("operation not permitted\nmore")])
def test_a_recording_that_fails_leaves_the_stage_eager(error: Exception) -> None:
    class Failing(EagerCapture):
        def record(self, run: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
            raise error

    recorder = Recorder(Failing())
    for _ in range(2):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            pair = _pair()
            assert _are_equal(recorder.run("double", _double, pair), _double(pair))
    assert not said
    assert len(recorder) == 0


def test_errors_of_the_stage_itself_are_its_own() -> None:
    def stage(x: Tensor) -> Tensor:
        raise ValueError("no such thing")

    with pytest.raises(ValueError, match="no such thing"):
        Recorder(EagerCapture()).run("stage", stage, torch.rand(1))


def test_operations_are_counted_and_views_are_not() -> None:
    with Watch("meta") as watch:
        x = torch.rand(4, 4, device="meta")
        (x.T[1:] + 1).T.view(-1).exp()
    assert watch.launches == {"aten::rand": 1, "aten::add.Tensor": 1, "aten::exp": 1}
    assert not watch.problems


class LockedCapture(EagerCapture):
    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()

    def exclusive(self) -> AbstractContextManager[Any]:
        return self.lock


def test_threads_get_their_own_results() -> None:
    recorder = Recorder(LockedCapture())
    wrong: list[int] = []

    def work(seed: int) -> None:
        x = torch.full((50,), float(seed))
        for _ in range(40):
            if not torch.equal(recorder.run("square", lambda y: y * y, x), x * x):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.fixture
def recording(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[rdvfi.Interpolator, EagerCapture]]:
    """RDVFI-S that records on the CPU, by the stand-in; what it does on CUDA."""
    capture = EagerCapture()
    with toy.registered():
        model = toy.toy_model().eval().requires_grad_(False)
        model.optimize()
        model._recorder = Recorder(capture)
        monkeypatch.setattr(type(model), "_can_record", lambda self, images: self._recorder is not None)
        yield model, capture


def _frames(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first = torch.rand(1, 3, 48, 64, generator=generator)
    return first, first.roll(2, dims=-1)


def test_a_model_gives_the_same_frames_recorded(recording: tuple[rdvfi.Interpolator, EagerCapture]) -> None:
    model, capture = recording
    expected = [model(*_frames(seed), [0.25, 0.5]) for seed in (0, 1)]
    assert (capture.recorded, capture.replayed) == (2, 2)
    again = [model(*_frames(seed), [0.25, 0.5]) for seed in (0, 1)]
    assert capture.recorded == 2
    model._recorder = None
    plain = [model(*_frames(seed), [0.25, 0.5]) for seed in (0, 1)]
    for frames in zip(expected, again, plain, strict=True):
        assert torch.equal(frames[0], frames[1])
        assert torch.equal(frames[0], frames[2])


def test_a_motion_outlives_the_next_one(recording: tuple[rdvfi.Interpolator, EagerCapture]) -> None:
    model, _ = recording
    motions = [model.estimate(*_frames(seed)) for seed in (0, 1, 2)]
    model._recorder = None
    with fixed_shapes():  # as in a graph, where nothing is left out
        for seed, motion in enumerate(motions):
            assert _are_equal(motion, model.estimate(*_frames(seed)))


def test_other_rules_for_content_are_recorded_anew(recording: tuple[rdvfi.Interpolator, EagerCapture]) -> None:
    model, _ = recording
    assert model.estimate(*_frames(0)).content is not None
    model.content_rules = False
    assert model.estimate(*_frames(0)).content is None


def test_a_graph_holds_for_the_settings_that_it_was_recorded_with(
    recording: tuple[rdvfi.Interpolator, EagerCapture],
) -> None:
    model, capture = recording
    model(*_frames(0), [0.5])
    model.generator.num_inference_steps += 1
    changed = model(*_frames(0), [0.5])
    assert capture.recorded == 4
    model._recorder = None
    assert torch.equal(changed, model(*_frames(0), [0.5]))


def test_training_and_moves_undo_it(recording: tuple[rdvfi.Interpolator, EagerCapture]) -> None:
    model, _ = recording
    model(*_frames(0), [0.5])
    recorder = model._recorder
    assert recorder is not None
    for change in (lambda: model.double().float(), lambda: model.load_state_dict(model.state_dict())):
        model(*_frames(0), [0.5])
        assert len(recorder) == 2
        change()
        assert len(recorder) == 0
        assert model._recorder is recorder
    model.train()
    assert model._recorder is None
    with pytest.raises(RuntimeError, match="for inference"):
        model.optimize()


def test_filling_keeps_the_structure() -> None:
    pair = _pair(layer=nn.Identity())
    rest = iter([torch.zeros(1), torch.ones(1)])
    new = map_tensors((pair, [1, None]), lambda _: next(rest))
    assert new[0].first.item() == 0.0
    assert new[0].rest["a"].item() == 1.0
    assert new[0].layer is pair.layer
    assert new[1] == [1, None]


@dataclass(frozen=True, eq=False)
class Computed:
    first: Tensor
    twice: Tensor = field(init=False)
    last: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "twice", 2.0 * self.first)


def test_what_a_structure_computes_of_itself_is_no_input() -> None:
    recorder = Recorder(EagerCapture())
    for value in (1.0, 3.0, 5.0):
        given = Computed(torch.tensor([value]), torch.tensor([10.0]))
        made = recorder.run("sum", lambda x: x.twice + x.last, given)
        assert made.item() == 2.0 * value + 10.0


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.mark.gpu
@needs_cuda
def test_a_graph_replays_a_stage_on_a_gpu() -> None:
    recorder = Recorder()
    for _ in range(3):
        pair = Pair(torch.rand(1000, device="cuda"), {"a": torch.rand(2, 3, device="cuda")})
        assert _are_equal(recorder.run("double", _double, pair, 1.0), _double(pair, 1.0))
    assert len(recorder) == 1
    with pytest.warns(RuntimeWarning, match="waits for a value"):
        recorder.run("item", lambda x: x * x.sum().item(), torch.ones(3, device="cuda"))


@pytest.mark.gpu
@needs_cuda
def test_a_model_gives_the_same_frames_by_graphs_on_a_gpu() -> None:
    model = rdvfi.create_model("rdvfi-s", device="cuda", dtype=torch.float16)
    pairs = [[x.to("cuda", torch.float16) for x in _frames(seed)] for seed in (0, 1)]
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("error")
        plain = [model(*pair, [0.2, 0.5]) for pair in pairs]
        model.optimize()
        for _ in range(2):
            assert all(torch.equal(model(*pair, [0.2, 0.5]), frames) for pair, frames in zip(pairs, plain, strict=True))
    assert model._recorder is not None
    assert len(model._recorder) == 2

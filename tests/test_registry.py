"""Names stand for factories, and what they make can be described and made again."""

import importlib
import sys
import warnings
from enum import Enum
from pathlib import Path

import pytest
from torch import nn

import toy
from rdvfi import _plugins
from rdvfi.about import About
from rdvfi.interfaces import Basis, CoarseFlow, FlowEstimator, Reads
from rdvfi.registry import (
    REGISTRIES,
    Registry,
    Replaced,
    bases,
    create_from_spec,
    flows,
    spec_of,
    trajectories,
)


class Shape(Enum):
    ROUND = "round"
    SQUARE = "square"


@pytest.fixture
def shelf() -> Registry[FlowEstimator]:
    """An empty registry of its own."""
    return Registry(FlowEstimator, "flow")


@pytest.fixture
def _register_toys():
    with toy.registered():
        yield


def test_a_registered_name_makes_the_object(shelf: Registry[FlowEstimator]) -> None:
    assert shelf.register("my_flow")(toy.toy_flow) is toy.toy_flow
    assert list(shelf) == ["my-flow"]
    assert "my-flow" in shelf
    assert "my_flow" in shelf
    assert 5 not in shelf
    assert shelf["my_flow"] is toy.toy_flow
    made = shelf.create("my-flow", window=3)
    assert isinstance(made, toy.ToyFlow)
    assert made.window == 3
    assert repr(shelf) == "Registry(flow: my-flow)"


def test_an_entry_says_what_is_known_about_it(shelf: Registry[FlowEstimator]) -> None:
    known = About(weights_licence="CC-BY-NC-4.0", citation="Somebody, Something, 2020")
    shelf.register("known", about=known)(toy.toy_flow)
    shelf.register("unknown")(toy.toy_flow)
    assert shelf.about("known") == known
    assert shelf.about("unknown") == About()
    shelf.unregister("known")
    with pytest.raises(KeyError, match="no flow named 'known'"):
        shelf.about("known")


def test_a_taken_name_is_refused_and_names_the_owner(shelf: Registry[FlowEstimator]) -> None:
    shelf.register("one")(toy.toy_flow)

    def other(*, window: int = 1) -> FlowEstimator:
        return toy.ToyFlow(Reads.LATENTS, window)

    with pytest.raises(ValueError, match=r"'one' is already registered by toy\.toy_flow"):
        shelf.register("one")(other)
    assert shelf["one"] is toy.toy_flow


def test_a_notebook_cell_can_run_again(shelf: Registry[FlowEstimator]) -> None:
    cell = (
        "from rdvfi.interfaces import FlowEstimator\n"
        "@shelf.register('cell')\n"
        "def cell(*, n: int = {n}) -> FlowEstimator: ...\n"
    )
    for n in (1, 2):
        exec(cell.format(n=n), {"__name__": "__main__", "shelf": shelf})
    assert shelf.parameters("cell")["n"].default == 2


def test_an_unknown_name_gets_the_close_match_and_the_list(shelf: Registry[FlowEstimator]) -> None:
    shelf.register("local")(toy.toy_flow)
    with pytest.raises(KeyError) as caught:
        shelf.create("locl")
    assert str(caught.value) == "no flow named 'locl'; did you mean 'local'? (registered: local)"
    with pytest.raises(KeyError, match="no flow named 'x'"):
        shelf.unregister("x")
    with pytest.raises(TypeError):
        shelf.create(3)  # pyright: ignore


def test_a_product_of_another_interface_is_refused(shelf: Registry[FlowEstimator]) -> None:
    shelf.register("wrong")(toy.ToyBasis)
    with pytest.raises(TypeError, match="made a ToyBasis; expected a FlowEstimator"):
        shelf.create("wrong")


def _positional(levels: int) -> FlowEstimator: ...


def _untyped(*, levels) -> FlowEstimator: ...


def _strange(*, levels: dict) -> FlowEstimator: ...


def _swallows(**options: int) -> FlowEstimator: ...


def _bad_default(*, levels: int = "many") -> FlowEstimator: ...  # pyright: ignore


@pytest.mark.parametrize("factory", [_positional, _untyped, _strange, _swallows, _bad_default])
def test_a_failed_add_changes_nothing(shelf: Registry[FlowEstimator], factory) -> None:
    with pytest.raises(TypeError, match=r"levels|options"):
        shelf.register("bad")(factory)
    with pytest.raises(ValueError, match="needs a name"):
        shelf.register(" ")
    assert len(shelf) == 0


def _everything(
    *,
    size: int,
    gain: float = 1,
    shape: Shape = Shape.ROUND,
    sizes: tuple[int, ...] = (1, 2),
    pair: tuple[int, float] = (1, 0.5),
    names: list[str] | None = None,
    flag: bool = False,
    inner: FlowEstimator | None = None,
) -> FlowEstimator:
    made = toy.ToyFlow(Reads.LATENTS, size)
    made.got = (size, gain, shape, sizes, pair, names, flag)  # pyright: ignore
    return made


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "needs size"),
        ({"size": 1, "sise": 2}, "no parameter 'sise'; did you mean 'size'"),
        ({"size": "abc"}, "size must be int; got 'abc'"),
        ({"size": True}, "size must be int; got True"),
        ({"size": 1.5}, "size must be int"),
        ({"size": 1, "shape": "FLAT"}, "shape must be one of ROUND, SQUARE; got 'FLAT'"),
        ({"size": 1, "sizes": 3}, "sizes must be tuple"),
        ({"size": 1, "sizes": (1, "b")}, "sizes must be int"),
        ({"size": 1, "pair": (1,)}, "pair must be .*; got 1 values"),
        ({"size": 1, "inner": nn.Identity()}, r"inner must be .*FlowEstimator.*; got Identity"),
    ],
)
def test_a_wrong_configuration_is_refused(shelf: Registry[FlowEstimator], config, message: str) -> None:
    shelf.register("every")(_everything)
    with pytest.raises(TypeError, match=message):
        shelf.create("every", **config)


def test_a_specification_makes_the_same_object(shelf: Registry[FlowEstimator]) -> None:
    shelf.register("every")(_everything)
    made = shelf.create("every", size=2, shape=Shape.SQUARE, names=["a"])
    spec = spec_of(made)
    assert spec["name"] == "every"
    assert spec["config"] == {
        "size": 2,
        "gain": 1.0,
        "shape": "SQUARE",
        "sizes": [1, 2],
        "pair": [1, 0.5],
        "names": ["a"],
        "flag": False,
        "inner": None,
    }
    again = create_from_spec(shelf, spec)
    assert again.got == made.got  # pyright: ignore
    assert spec_of(again) == spec


@pytest.mark.usefixtures("_register_toys")
def test_a_specification_holds_the_components_inside() -> None:
    made = trajectories.create("toy", flow=flows.create("toy", window=7), basis=bases.create("toy"))
    spec = spec_of(made)
    assert spec["config"]["flow"] == {"name": "toy", "config": {"reads": "LATENTS", "window": 7}}
    again = create_from_spec(trajectories, spec)
    assert isinstance(again, toy.ToyTrajectoryModel)
    assert isinstance(again.flow, toy.ToyFlow)
    assert again.flow.window == 7
    assert spec_of(again) == spec


@pytest.mark.usefixtures("_register_toys")
def test_what_was_built_by_hand_has_no_specification() -> None:
    by_hand = toy.ToyFlow(Reads.LATENTS, 3)
    with pytest.raises(TypeError, match="ToyFlow was built by hand"):
        spec_of(by_hand)
    outer = trajectories.create("toy", flow=by_hand, basis=bases.create("toy"))
    with pytest.raises(TypeError, match="ToyFlow was built by hand"):
        spec_of(outer)


@pytest.mark.usefixtures("_register_toys")
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("toy", "described by a name and a config"),
        ({"name": "toy"}, "described by a name and a config"),
        ({"name": "toy", "config": [], "_target_": "os.system"}, "described by a name"),
        ({"name": "toy", "config": []}, "must be a table"),
        ({"name": "os.system", "config": {}}, "no trajectory named 'os.system'"),
        ({"name": "toy", "config": {"flow": "toy"}}, "a flow is described by"),
        (
            {"name": "toy", "config": {"flow": {"name": "toi", "config": {}}}},
            "no flow named 'toi'; did you mean 'toy'",
        ),
        ({"name": "toy", "config": {"floww": 1}}, "no parameter 'floww'"),
    ],
)
def test_a_damaged_specification_is_refused(spec, message: str) -> None:
    with pytest.raises((KeyError, TypeError), match=message):
        create_from_spec(trajectories, spec)


def test_a_module_without_constructor_takes_nothing() -> None:
    shelf: Registry[Basis] = Registry(Basis, "basis")
    shelf.register("plain")(toy.ToyBasis)
    assert shelf.parameters("plain") == {}
    with pytest.raises(TypeError, match="no parameter 'a'"):
        shelf.create("plain", a=1)


def test_creating_keeps_the_state_dict_clean() -> None:
    with toy.registered():
        assert list(flows.create("toy").state_dict()) == ["gain"]


def _plugin(folder: Path, name: str, source: str) -> None:
    """A package as pip installs it: a module and its entry point."""
    (folder / f"{name}.py").write_text(source)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[rdvfi.plugins]\n{name} = {name}\n")


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A place for plug-ins that are found at the next look-up; afterwards nothing is left of them."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(_plugins, "_statuses", None)
    importlib.invalidate_caches()
    before, modules = [registry.entries() for registry in REGISTRIES], set(sys.modules)
    yield tmp_path
    for registry, entries in zip(REGISTRIES, before, strict=True):
        registry.restore(entries)
    for name in set(sys.modules) - modules:
        del sys.modules[name]


REGISTERS = """
import rdvfi
from rdvfi.interfaces import Basis
list(rdvfi.bases)  # a look-up while loading
@rdvfi.bases.register('{name}')
class Mine(Basis):
    def weights(self, knots, times): ...
"""


def test_plugins_load_at_the_first_look_up_once(fresh: Path) -> None:
    _plugin(fresh, "rdvfi_good_plugin", REGISTERS.format(name="from-plugin"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "from-plugin" in bases
    (status,) = _plugins.load_plugins(REGISTRIES)
    assert status.registered == ("basis from-plugin",)
    assert (status.package, status.failure) == ("rdvfi_good_plugin 1.0", None)


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        ("raise RuntimeError('no engine')", "RuntimeError: no engine"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("import no_such_module_of_ours", "ModuleNotFoundError: No module named 'no_such_module_of_ours'"),
        ("rdvfi.bases.unregister('cubic')", "it removed or replaced basis 'cubic'"),
        ("rdvfi.flows.restore({})", "it removed or replaced flow 'dis', flow 'global-local'.*"),
        ("class Own(BaseException): ...\nraise Own('mine')", "Own: mine"),
        ("raise KeyboardInterrupt", None),
    ],
)
def test_a_broken_plugin_is_left_out_with_all_that_it_did(fresh: Path, ending: str, reason: str | None) -> None:
    _plugin(fresh, "rdvfi_good_plugin", REGISTERS.format(name="from-plugin"))
    _plugin(fresh, "rdvfi_sick_plugin", REGISTERS.format(name="half-done") + ending + "\n")
    entries = {registry.group: set(registry.entries()) for registry in REGISTRIES}
    if reason is None:  # the user's interrupt is passed on
        with pytest.raises(KeyboardInterrupt):
            _ = "cubic" in bases
        (fresh / "rdvfi_sick_plugin.py").write_text("")  # at the next look-up the rest is loaded
    else:
        with pytest.warns(RuntimeWarning, match=rf"'rdvfi_sick_plugin'.* left out: {reason}") as caught:
            assert "from-plugin" in bases
        assert len(caught) == 1
    assert "cubic" in bases
    left = {registry.group: set(registry.entries()) for registry in REGISTRIES}
    assert left == {**entries, "basis": entries["basis"] | {"from-plugin"}}


def _current(*, iterations: int = 2, knots: Shape = Shape.ROUND) -> FlowEstimator:
    return toy.ToyFlow(Reads.LATENTS, iterations)


def test_models_saved_under_former_names_load(shelf: Registry[FlowEstimator]) -> None:
    moved = Replaced("knots", ((True, "SQUARE"), (False, "ROUND")))
    shelf.register("current", renamed={"looks": "iterations", "moved": moved})(_current)
    made = create_from_spec(shelf, {"name": "current", "config": {"looks": 5, "moved": True}})
    assert spec_of(made) == {"name": "current", "config": {"iterations": 5, "knots": "SQUARE"}}
    with pytest.raises(TypeError, match="has 'iterations' twice, the second time as 'looks'"):
        create_from_spec(shelf, {"name": "current", "config": {"iterations": 3, "looks": 5}})


def test_a_former_name_is_answered_with_the_one_now(shelf: Registry[FlowEstimator]) -> None:
    shelf.register("current", renamed={"looks": "iterations"})(_current)
    with pytest.raises(TypeError, match=r"^flow 'current': 'looks' is called 'iterations' now$"):
        shelf.create("current", looks=2)
    for renamed in ({"looks": "iterationz"}, {"knots": "iterations"}):
        with pytest.raises(ValueError, match="cannot have been renamed to"):
            shelf.register("other", renamed=renamed)(_current)
    assert list(shelf) == ["current"]


def _slots(*, first: CoarseFlow, second: FlowEstimator, third: CoarseFlow | None = None, size: int = 1) -> Basis: ...


def test_the_annotation_says_which_group_fills_a_slot(shelf: Registry[FlowEstimator]) -> None:
    shelf.register("slots")(_slots)
    parameters = shelf.parameters("slots").values()
    assert [parameter.slot for parameter in parameters] == ["coarse", "flow", "coarse", None]
    assert [parameter.component for parameter in parameters] == [FlowEstimator] * 3 + [None]


def test_the_name_coarse_still_says_so_for_plug_ins_of_the_first_version(shelf: Registry[FlowEstimator]) -> None:
    def old(*, coarse: FlowEstimator) -> FlowEstimator: ...

    with pytest.warns(FutureWarning, match=r"'coarse' of .*old is taken for a CoarseFlow .*annotate it"):
        shelf.register("old")(old)
    assert shelf.parameters("old")["coarse"].slot == "coarse"


def test_every_registry_has_its_own_interface() -> None:
    assert len({registry.interface for registry in REGISTRIES}) == len(REGISTRIES) == 5

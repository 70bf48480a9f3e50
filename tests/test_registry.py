"""Names stand for factories, and what they make can be described and made again."""

import importlib
import sys
import types
import warnings
from enum import Enum
from pathlib import Path

import pytest
from torch import nn

import rdvfi
import toy
from rdvfi import registry as registry_module
from rdvfi.about import About
from rdvfi.interfaces import Basis, FlowEstimator, Reads
from rdvfi.registry import (
    REGISTRIES,
    Registry,
    backbones,
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
def _toys():
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


@pytest.mark.usefixtures("_toys")
def test_a_specification_holds_the_components_inside() -> None:
    made = trajectories.create("toy", flow=flows.create("toy", window=7), basis=bases.create("toy"))
    spec = spec_of(made)
    assert spec["config"]["flow"] == {"name": "toy", "config": {"reads": "LATENTS", "window": 7}}
    again = create_from_spec(trajectories, spec)
    assert isinstance(again, toy.ToyTrajectoryModel)
    assert isinstance(again.flow, toy.ToyFlow)
    assert again.flow.window == 7
    assert spec_of(again) == spec


@pytest.mark.usefixtures("_toys")
def test_what_was_built_by_hand_has_no_specification() -> None:
    by_hand = toy.ToyFlow(Reads.LATENTS, 3)
    with pytest.raises(TypeError, match="ToyFlow was built by hand"):
        spec_of(by_hand)
    outer = trajectories.create("toy", flow=by_hand, basis=bases.create("toy"))
    with pytest.raises(TypeError, match="ToyFlow was built by hand"):
        spec_of(outer)


@pytest.mark.usefixtures("_toys")
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


def test_plugins_load_at_the_first_look_up_and_broken_ones_warn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = (
        "import rdvfi\n"
        "from rdvfi.interfaces import Basis\n"
        "list(rdvfi.bases)  # a look-up while loading\n"
        "@rdvfi.bases.register('from-plugin')\n"
        "class Mine(Basis):\n"
        "    def weights(self, knots, times): ...\n"
    )
    _plugin(tmp_path, "rdvfi_good_plugin", good)
    _plugin(tmp_path, "rdvfi_sick_plugin", "raise RuntimeError('no engine')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry_module, "_plugins_loaded", False)
    importlib.invalidate_caches()
    with pytest.warns(RuntimeWarning, match=r"rdvfi_sick_plugin.*no engine") as caught:
        assert "from-plugin" in bases
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "from-plugin" in bases  # once
    bases.unregister("from-plugin")
    sys.modules.pop("rdvfi_good_plugin")


def test_backbones_is_a_registry_and_a_package() -> None:
    package = importlib.import_module("rdvfi.backbones")
    assert isinstance(package, types.ModuleType)
    assert rdvfi.backbones is backbones
    assert isinstance(rdvfi.backbones, Registry)
    with pytest.raises(AttributeError, match="no attribute 'nothing_like_it'"):
        _ = rdvfi.backbones.nothing_like_it
    with pytest.raises(AttributeError):
        _ = rdvfi.flows.compact


def test_every_registry_has_its_own_interface() -> None:
    assert len({registry.interface for registry in REGISTRIES}) == len(REGISTRIES) == 5

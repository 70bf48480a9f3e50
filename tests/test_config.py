"""Recipes: composed and checked by Hydra's schema, built by registered names only."""

from pathlib import Path

import pytest
import torch
import yaml
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra

import rdvfi
import toy
from rdvfi import config
from rdvfi.config import GROUPS, build, compose, list_recipes
from rdvfi.config.recipe_files import find_recipe
from rdvfi.interfaces import FlowEstimator, KeyframeGenerator, Reads
from rdvfi.registry import REGISTRIES, backbones, bases, renderers

RECIPE = """
defaults:
  - interpolator
  - backbone: toy
  - coarse: toy
  - flow: toy
  - basis: toy
  - trajectory: toy
  - renderer: toy
  - _self_
motion_area: 3072
coarse:
  window: 9
"""


@pytest.fixture(autouse=True)
def _register_toys():
    with toy.registered():
        yield


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(RECIPE)
    return path


def test_a_recipe_makes_the_model_that_it_describes(recipe: Path) -> None:
    model = build(recipe)
    assert model.motion_area == 3072
    generator, trajectory = model.generator, model.trajectory
    assert isinstance(generator, toy.ToyGenerator)
    assert isinstance(trajectory, toy.ToyTrajectoryModel)
    assert isinstance(generator.coarse, toy.ToyFlow)
    assert isinstance(trajectory.flow, toy.ToyFlow)
    assert generator.coarse.window == 9  # the group `coarse`
    assert trajectory.flow.window == 5  # the group `flow`
    frames = model(toy.textured(1, 40, 40), toy.textured(1, 40, 40, seed=1), [0.5])
    assert frames.shape == (1, 1, 3, 40, 40)


def test_overrides_choose_and_set(recipe: Path) -> None:
    bases.register("other_basis")(toy.ToyBasis)
    try:
        model = build(
            recipe,
            "basis=other_basis",
            "backbone.inner=1",
            "backbone.pooling=MAX",
            "flow.reads=PIXELS",
            "renderer.tint=1",
            "renderer.shape=[3,4]",
            "motion_area=1024",
        )
    finally:
        bases.unregister("other-basis")
    generator, trajectory = model.generator, model.trajectory
    assert isinstance(generator, toy.ToyGenerator)
    assert isinstance(trajectory, toy.ToyTrajectoryModel)
    assert len(generator.knot_times) == 3
    assert generator.pooling is toy.Pooling.MAX
    assert trajectory.reads is Reads.PIXELS
    assert model.motion_area == 1024
    assert model.pretrained().renderer["config"] == {"tint": 1.0, "shape": [3, 4]}
    assert model.pretrained().trajectory["config"]["basis"]["name"] == "other-basis"


def test_what_is_built_can_be_saved(recipe: Path, tmp_path: Path) -> None:
    model = build(recipe, "coarse=null")
    assert model.generator.coarse is None
    model.save_pretrained(tmp_path / "saved")
    again = rdvfi.create_model(tmp_path / "saved")
    assert again.pretrained() == model.pretrained()


def test_a_seed_gives_the_weights(recipe: Path) -> None:
    torch.manual_seed(3)
    one = build(recipe).state_dict()
    torch.manual_seed(3)
    two, three = build(recipe).state_dict(), build(recipe).state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not all(torch.equal(one[key], three[key]) for key in one)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("basis=tot", r"override 'basis=tot': no basis named 'tot'; did you mean 'toy'\? \(known"),
        ("bassis=toy", "no group 'bassis'; did you mean 'basis'"),
        ("backbone.iner=1", "backbone 'toy' has no parameter 'iner'; did you mean 'inner'"),
        ("+backbone.iner=1", "'[+]backbone.iner=1': no group"),
        ("backbone.inner=abc", "Value 'abc' of type 'str' could not be converted to Integer"),
        ("backbone.pooling=MEDIAN", r"Invalid value 'MEDIAN', expected one of \[MEAN, MAX\]"),
        ("renderer.shape=[a]", "could not be converted to Integer"),
        ("motion_area=big", "could not be converted to Integer"),
        ("motion_area=0", "motion_area must be a number of pixels; got 0"),
        ("backbone._target_=os.system", "backbone 'toy' has no parameter '_target_'"),
        ("hydra.searchpath=[pkg://os]", "the package of configurations pkg://os does not exist"),
        ("hydra.searchpath=[nowhere]", "the folder of configurations nowhere does not exist"),
        ("hydra.job.name=x", "no group 'hydra'"),
        ("basis=toy,linear", r"gives several values, which is a sweep: add --multirun \(-m\)"),
        ("renderer.tint=1,2", "gives several values, which is a sweep"),
        ("backbone.inner=abc", "expected inner: int = 3"),
        ("backbone.pooling=MEDIAN", "expected pooling: Pooling = MEAN"),
        ("basis", "an override reads group=name or group.field=value; got 'basis'"),
        ("flow=null", "the recipe chooses no flow: add `flow: NAME`"),
        ("renderer=null", "the recipe chooses no renderer: add `renderer: NAME`"),
    ],
)
def test_a_wrong_override_is_refused(recipe: Path, override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        build(recipe, override)
    assert "\n" not in str(caught.value)


def test_latent_channels_are_those_of_the_backbone_unless_given(recipe: Path) -> None:
    learned = ("trajectory=direct", "renderer=synthesis")
    with pytest.raises(ValueError, match="carry none"):
        build(recipe, *learned)
    model = build(recipe, "flow=local", "trajectory=iterative", "trajectory.knots=FIXED", "renderer=synthesis")
    saved = model.pretrained()
    assert saved.trajectory["config"]["latent_channels"] == 4
    assert saved.trajectory["config"]["flow"]["config"]["latent_channels"] == 4
    assert saved.renderer["config"]["latent_channels"] == 4
    with pytest.raises(ValueError, match=r"LocalFlow reads latents of 8 channels.*makes .* of 4"):
        build(recipe, "flow=local", "trajectory=iterative", "flow.latent_channels=8")


@pytest.mark.parametrize(
    ("recipe_name", "override", "message"),
    [
        ("rdvfi_s", "flow=raft", "nothing reads the group flow: neither backbone 'compact' nor trajectory 'prior'"),
        ("rdvfi_s", "flow.radius=3", "no flow is chosen, so flow.radius sets nothing"),
        ("rdvfi_d", "coarse=dis", "nothing reads the group coarse"),
    ],
)
def test_an_override_that_nothing_reads_is_refused(recipe_name: str, override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compose(recipe_name, override)


def test_a_recipe_of_ones_own_sets_nothing_that_nothing_reads(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("defaults:\n  - rdvfi_s\n  - override trajectory: prior\n  - _self_\nflow: {radius: 2}\n")
    with pytest.raises(ValueError, match="nothing reads the group flow"):
        build(path)
    assert compose(path, "trajectory=iterative")["flow"]["radius"] == 2


def test_a_choice_takes_its_own_defaults_and_not_the_values_of_the_former_one() -> None:
    assert compose("rdvfi_s")["renderer"]["one_light"] is True
    assert compose("rdvfi_s", "renderer=warp")["renderer"] == {"_name_": "warp"}
    with pytest.raises(ValueError, match="renderer 'warp' has no parameter 'one_light'"):
        compose("rdvfi_s", "renderer=warp", "renderer.one_light=true")


def test_groups_of_ones_own_are_found_by_the_search_path(tmp_path: Path) -> None:
    (tmp_path / "renderer").mkdir()
    (tmp_path / "renderer" / "wide.yaml").write_text("defaults: [synthesis, _self_]\nwidth: 64\n")
    for given in ({"config_dir": tmp_path}, {}):
        search = () if given else (f"hydra.searchpath=[{tmp_path}]",)
        assert compose("rdvfi_s", "renderer=wide", *search, **given)["renderer"]["width"] == 64
    with pytest.raises(ValueError, match=r"no renderer named 'wid'; did you mean 'wide'"):
        compose("rdvfi_s", "renderer=wid", config_dir=tmp_path)


def test_a_coarse_flow_must_read_pixels() -> None:
    with pytest.raises(ValueError, match="coarse flow must read pixels"):
        build("rdvfi_s", "coarse=local")


def test_a_grid_that_the_renderer_does_not_draw_is_named(recipe: Path) -> None:
    message = "ToyRenderer draws trajectories on the TARGET grid.*on the SOURCE grid"
    with pytest.raises(ValueError, match=message):
        build(recipe, "trajectory.grid=SOURCE")
    assert build(recipe, "trajectory.grid=SOURCE", "renderer=blend").trajectory.grid.name == "SOURCE"


def test_a_basis_that_looks_further_than_points_are_followed_is_refused_at_once() -> None:
    class Everywhere(rdvfi.Basis):
        def weights(self, knots: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
            return torch.full((times.numel(), knots.numel()), 1.0 / knots.numel())

    rdvfi.bases.register("everywhere")(Everywhere)
    try:
        for trajectory in ("iterative", "direct", "chained", "straight"):
            chosen = ("basis=everywhere", f"trajectory={trajectory}")
            with pytest.raises(ValueError, match="Everywhere may use knots 8 away"):
                build("rdvfi_s1", *chosen)
            assert build("rdvfi_s1", *chosen, "trajectory.knots=FIXED")
            assert build("rdvfi_s1", *chosen, "backbone=ends")  # two knots, so nothing is far
    finally:
        rdvfi.bases.unregister("everywhere")


def test_nothing_is_built_from_a_wrong_recipe(recipe: Path) -> None:
    made = []

    def counting(*, size: int = 1) -> KeyframeGenerator:
        made.append(size)
        return toy.toy_backbone()

    backbones.register("counting")(counting)
    try:
        build(recipe, "backbone=counting")
        assert made == [1]
        for wrong in ("renderer.tint=a", "renderer=toi", "renderer.tin=1", "renderer=null"):
            with pytest.raises(ValueError):
                build(recipe, "backbone=counting", wrong)
        assert made == [1]
    finally:
        backbones.unregister("counting")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be a table"),
        ("defaults: [interpolator]\nhydra:\n  searchpath: [pkg://os]\n", "without `hydra`"),
        ("motion_area: 5", "must have 'interpolator' first"),
        ("defaults:\n  - interpolator\n  - basis: nothing\n", "basis/nothing"),
        ("defaults:\n  - interpolator\n  - _self_\nstray: 1\n", "Key 'stray' not in"),
        ("defaults: [interpolator, _self_]\nmotion_area: big\n", "converted to Integer"),
        ("defaults: [interpolator, nowhere]\n", "nowhere"),
        ("a: [", "mine.yaml"),
        ("- a\n- b\n", "mine.yaml"),
    ],
)
def test_a_wrong_recipe_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        build(path)


def test_an_unknown_recipe_gets_the_close_match(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no recipe named 'rdvfi_ss'; did you mean 'rdvfi_s'"):
        build("rdvfi_ss")
    with pytest.raises(ValueError, match=r"gone\.yaml' does not exist"):
        build(tmp_path / "gone.yaml")


def test_a_slot_that_no_group_fills_is_named(recipe: Path) -> None:
    def wrapping(*, inner: KeyframeGenerator) -> KeyframeGenerator:
        return inner

    backbones.register("wrapping")(wrapping)
    try:
        with pytest.raises(ValueError, match=r"takes a KeyframeGenerator as 'inner'.*in Python"):
            build(recipe, "backbone=wrapping")
    finally:
        backbones.unregister("wrapping")


def test_required_values_must_be_given(recipe: Path) -> None:
    def needy(*, tint: float) -> rdvfi.Renderer:
        return toy.ToyRenderer(tint)

    renderers.register("needy")(needy)
    try:
        with pytest.raises(ValueError, match=r"Missing mandatory value: tint in renderer:needy"):
            build(recipe, "renderer=needy")
        assert build(recipe, "renderer=needy", "renderer.tint=0.5")
    finally:
        renderers.unregister("needy")


def test_hydras_global_state_is_restored(recipe: Path) -> None:
    store = ConfigStore.instance().repo
    before = set(store)
    build(recipe)
    with pytest.raises(ValueError):
        build(recipe, "basis.x=1")
    assert ConfigStore.instance().repo is store
    assert set(store) == before
    assert not GlobalHydra.instance().is_initialized()


def test_every_entry_has_a_node_that_omegaconf_accepts() -> None:
    from omegaconf import OmegaConf

    for registry in REGISTRIES:
        for name in registry:
            node = OmegaConf.structured(config.make_node(registry, name))
            plain = [p for p in registry.parameters(name).values() if p.component is None]
            assert set(node) == {"_name_", *(p.name for p in plain)}


def test_recipes_of_the_package_are_short_and_name_registered_entries() -> None:
    assert "rdvfi_s" in list_recipes()
    for name in list_recipes():
        text = (config.RECIPES / f"{name}.yaml").read_text()
        assert len(text.splitlines()) <= 20
        for line in yaml.safe_load(text)["defaults"]:
            if isinstance(line, dict):
                ((group, entry),) = line.items()
                group = group.removeprefix("override ")
                own = entry is not None and (config.RECIPES / group / f"{entry}.yaml").exists()
                assert own or entry is None or entry in GROUPS[group], f"{name}: {group}: {entry}"


def test_a_recipe_of_ones_own_may_start_from_ours(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    head = "defaults:\n  - rdvfi_s\n"
    swaps = "".join(f"  - override {group}: toy\n" for group in GROUPS)
    path.write_text(f"{head}{swaps}  - _self_\nmotion_area: 99\n")
    assert compose(path)["motion_area"] == 99
    assert isinstance(build(path).generator, toy.ToyGenerator)


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_builds_and_runs(name: str) -> None:
    large = compose(name)["backbone"]["_name_"] in ("svd", "wan")
    smaller = ["backbone.size=toy"] if large else []
    if name == "wan_raft":
        smaller += ["flow.size=SMALL", "flow.weights=null", "flow.iterations=1"]
        smaller += ["backbone.num_inference_steps=2"]
    model = build(name, *smaller).eval()
    first, last = toy.textured(1, 64, 80), toy.textured(1, 64, 80, seed=1)
    with torch.no_grad():
        assert model(first, last, [0.5]).shape == (1, 1, 3, 64, 80)


def test_names_of_recipes_may_have_hyphens() -> None:
    assert all(find_recipe(name.replace("_", "-")) == find_recipe(name) for name in list_recipes())


def test_ablations_are_the_whole_model_but_for_one_part() -> None:
    wholes = {name: compose(name) for name in ("rdvfi_s", "rdvfi_s1")}
    ablations = [name for name in list_recipes() if name.startswith("ablation_")]
    assert len(ablations) >= 5
    for name in ablations:
        ablated, whole = compose(name), wholes["rdvfi_s1" if name == "ablation_no_fusion" else "rdvfi_s"]
        assert len([key for key in whole if whole[key] != ablated[key]]) == 1, name


def test_flow_and_coarse_offer_the_same_entries() -> None:
    assert GROUPS["coarse"] is GROUPS["flow"]
    assert GROUPS["coarse"].interface is FlowEstimator

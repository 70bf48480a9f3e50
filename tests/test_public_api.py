"""The public names and signatures are pinned: changing one is a decision, not an accident."""

import inspect

import pytest

import rdvfi
from rdvfi.interfaces import (
    Basis,
    FlowEstimator,
    KeyframeGenerator,
    Renderer,
    Trajectory,
    TrajectoryModel,
)

NAMES = """
    Basis CoarseFlow FlowEstimator FlowGrid Interpolator KeyframeGenerator Keyframes Motion MotionPrior Reads Renderer
    Trajectory TrajectoryModel __version__ backbones bases build build_from compat create_model evaluate
    flow_colours flows to_image to_tensor
    interpolate_frames interpolate_many interpolate_video list_models renderers sweep train
    trajectories
""".split()

PARAMETERS = {
    "create_model": "name overrides *device *dtype",
    "list_models": "",
    "build": "recipe overrides *start *config_dir",
    "build_from": "cfg *start",
    "sweep": "clip overrides *model *recipe *gap *pairs *device *dtype *config_dir *into",
    "train": "recipe overrides *config_dir *report",
}

METHODS = {
    (rdvfi.Interpolator, "forward"): "self img0 img1 timesteps *seed *scene_threshold *same_scene",
    (
        rdvfi.Interpolator,
        "estimate",
    ): "self img0 img1 *seed *generator *noise *after *scene_threshold *same_scene *static",
    (rdvfi.Interpolator, "render"): "self img0 img1 motion timesteps",
    (rdvfi.Interpolator, "render_parts"): "self img0 img1 motion timesteps *at_most",
    (rdvfi.Interpolator, "from_pretrained"): "folder_or_hub_id *revision *device *dtype",
    (rdvfi.Interpolator, "save_pretrained"): "self folder *include_backbone *parts",
    (KeyframeGenerator, "forward"): "self img0 img1 noise *latent0",
    (KeyframeGenerator, "condition"): "self img0 img1 *latent0 *latent1 *prior",
    (KeyframeGenerator, "denoise"): "self noisy sigma condition",
    (KeyframeGenerator, "predict"): "self noisy sigma condition",
    (KeyframeGenerator, "noise_shape"): "self b h w",
    (KeyframeGenerator, "encode"): "self images",
    (KeyframeGenerator, "decode"): "self latents",
    (FlowEstimator, "forward"): "self source target",
    (Basis, "weights"): "self knots times",
    (TrajectoryModel, "forward"): "self keyframes",
    (Trajectory, "at"): "self times",
    (Trajectory, "velocity"): "self times *step",
    (Trajectory, "confidence"): "self times *flows",
    (Renderer, "forward"): "self img0 img1 motion timesteps",
}


def _parameters(function: object) -> str:
    parameters = inspect.signature(function).parameters.values()  # pyright: ignore
    star = inspect.Parameter.KEYWORD_ONLY
    return " ".join(("*" if p.kind is star else "") + p.name for p in parameters)


def test_public_names_are_pinned() -> None:
    assert sorted(rdvfi.__all__) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(rdvfi, name)
    if name not in {"__version__"}:
        assert inspect.getdoc(value), f"rdvfi.{name} has no docstring"


@pytest.mark.parametrize("name", PARAMETERS)
def test_signatures_are_pinned(name: str) -> None:
    assert _parameters(getattr(rdvfi, name)) == PARAMETERS[name]


@pytest.mark.parametrize(("owner", "name"), METHODS, ids=lambda part: getattr(part, "__name__", part))
def test_methods_are_pinned(owner: type, name: str) -> None:
    assert _parameters(getattr(owner, name)) == METHODS[owner, name]


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'interpolate_audio'"):
        _ = rdvfi.interpolate_audio  # pyright: ignore


def test_the_version_is_that_of_the_installed_package() -> None:
    from importlib.metadata import version

    assert rdvfi.__version__ == version("rdvfi")

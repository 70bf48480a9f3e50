"""RDVFI-S with one component exchanged, for all registered components, including plug-ins.

Each benchmark is a whole pair; one group contains all choices for one part of the recipe, so that
``pytest benchmarks/bench_components.py`` compares them. Weights are fresh, which does not affect
speed. Backbones and flows that are large by default, or need pretrained weights, run at
toy size; their names say so, and their times are not comparable.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch

import inputs
import rdvfi
from rdvfi.motion.trajectory.knots import Knots
from rdvfi.registry import Registry, backbones, bases, flows, renderers, trajectories
from work import Work

DEFAULT_SIZES = {"cpu": ("576x320",), "cuda": ("1024x576", "1920x1080")}

PLACES: dict[str, Registry[Any]] = {
    "backbone": backbones,
    "coarse": flows,
    "flow": flows,
    "basis": bases,
    "trajectory": trajectories,
    "renderer": renderers,
}
DEFAULTS = {
    "backbone": "compact",
    "coarse": "global-local",
    "flow": "local",
    "basis": "cubic",
    "trajectory": "prior",
    "renderer": "synthesis",
}
"""The components of RDVFI-S."""
TOY_OVERRIDES = {
    "svd": ("size=toy",),
    "wan": ("size=toy",),
    "raft": ("size=SMALL", "weights=null", "iterations=4"),
    "timm-pyramid": ("pretrained=false",),
}
"""Overrides that make a component small and independent of downloads."""
REQUIRED_OVERRIDES = {
    # Their keyframes have no motion prior, which the trajectory model of RDVFI-S needs.
    ("backbone", "svd"): ("trajectory=chained", "flow=local"),
    ("backbone", "wan"): ("trajectory=chained", "flow=local"),
    # Unlike the trajectory model of RDVFI-S, these need the flow between keyframes.
    ("trajectory", "chained"): ("flow=local",),
    ("trajectory", "iterative"): ("flow=local",),
}
"""Further overrides that a component needs."""


def _component_choices() -> list[Any]:
    entries = [
        pytest.param(place, name, (), id=f"{place}-{name}") for place, registry in PLACES.items() for name in registry
    ]
    knots = [
        pytest.param("trajectory", "iterative", (f"knots={x.name}",), id=f"trajectory-{x.value}")
        for x in Knots
        if x is not Knots.MOVED  # the default
    ]
    return entries + knots


@pytest.mark.parametrize(("place", "name", "values"), _component_choices())
def bench_component(
    compare: Callable[..., Any],
    device: torch.device,
    size: tuple[int, int],
    dtype: torch.dtype,
    new_frames: int,
    place: str,
    name: str,
    values: tuple[str, ...],
) -> None:
    pytest.importorskip("hydra", reason="recipes need hydra-core, which is not installed")
    toy = TOY_OVERRIDES.get(name, ())
    fields = [f"{place}.{value}" for value in (*toy, *values)]
    trajectory = ["trajectory=iterative"] if place == "flow" else []  # uses the flow between keyframes
    overrides = [f"{place}={name}", *fields, *REQUIRED_OVERRIDES.get((place, name), ()), *trajectory]
    torch.manual_seed(0)
    model = _build_or_skip(PLACES[place], name, overrides)
    model = model.to(device, dtype).eval().requires_grad_(False)
    times = torch.arange(1, new_frames + 1, device=device) / (new_frames + 1)
    compare(
        lambda img0, img1: model(img0, img1, times),
        inputs.real_pair(size, device, dtype),
        operation=f"{place} of RDVFI-S, {new_frames} new",
        implementation=" ".join((name, *values, *(["(toy size)"] if toy else []))),
        size=size,
        ours=DEFAULTS[place],
        work=Work(frames=new_frames),
    )


def _build_or_skip(registry: Registry[Any], name: str, overrides: list[str]) -> Any:
    try:
        return rdvfi.build("rdvfi_s", *overrides)
    except ImportError as error:
        pytest.skip(f"{name} needs a package: {error}")
    except ValueError as error:
        if registry[name].__module__.startswith("rdvfi.") and "must read pixels" not in str(error):
            raise
        pytest.skip(f"{name} does not fit there in RDVFI-S: {error}")

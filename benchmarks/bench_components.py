"""RDVFI-S with one component exchanged: every one that is registered, plug-ins too.

Each benchmark is a whole pair; one group holds all choices for one place in the recipe, so that
``pytest benchmarks/bench_components.py`` compares them. Weights are fresh: they do not change the
speed. Backbones and flows whose own defaults are large, or load weights from elsewhere, run at
toy size, which says so in their name and compares with nothing else.
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
"""RDVFI-S."""
TOY = {
    "svd": ("size=toy",),
    "wan": ("size=toy",),
    "raft": ("size=SMALL", "weights=null", "iterations=4"),
    "timm-pyramid": ("pretrained=false",),
}
"""Values that keep an entry small and off the network."""
ALSO = {
    # Their keyframes carry no coarse motion, which RDVFI-S's own trajectory is.
    ("backbone", "svd"): ("trajectory=chained", "flow=local"),
    ("backbone", "wan"): ("trajectory=chained", "flow=local"),
    # RDVFI-S reads no flow between keyframes; these do.
    ("trajectory", "chained"): ("flow=local",),
    ("trajectory", "iterative"): ("flow=local",),
}
"""What has to change with an entry."""


def _choices() -> list[Any]:
    entries = [
        pytest.param(place, name, (), id=f"{place}-{name}") for place, registry in PLACES.items() for name in registry
    ]
    knots = [
        pytest.param("trajectory", "iterative", (f"knots={x.name}",), id=f"trajectory-{x.value}")
        for x in Knots
        if x is not Knots.MOVED  # the default
    ]
    return entries + knots


@pytest.mark.parametrize(("place", "name", "values"), _choices())
def bench_component(
    compared: Callable[..., Any],
    device: torch.device,
    size: tuple[int, int],
    dtype: torch.dtype,
    new_frames: int,
    place: str,
    name: str,
    values: tuple[str, ...],
) -> None:
    pytest.importorskip("hydra", reason="recipes need hydra-core, which is not installed")
    toy = TOY.get(name, ())
    fields = [f"{place}.{value}" for value in (*toy, *values)]
    fuses = ["trajectory=iterative"] if place == "flow" else []  # which reads a flow between keyframes
    overrides = [f"{place}={name}", *fields, *ALSO.get((place, name), ()), *fuses]
    torch.manual_seed(0)
    model = _built(PLACES[place], name, overrides)
    model = model.to(device, dtype).eval().requires_grad_(False)
    times = torch.arange(1, new_frames + 1, device=device) / (new_frames + 1)
    compared(
        lambda img0, img1: model(img0, img1, times),
        inputs.real_pair(size, device, dtype),
        operation=f"{place} of RDVFI-S, {new_frames} new",
        implementation=" ".join((name, *values, *(["(toy size)"] if toy else []))),
        size=size,
        ours=DEFAULTS[place],
        work=Work(frames=new_frames),
    )


def _built(registry: Registry[Any], name: str, overrides: list[str]) -> Any:
    try:
        return rdvfi.build("rdvfi_s", *overrides)
    except ImportError as error:
        pytest.skip(f"{name} needs a package: {error}")
    except ValueError as error:
        if registry[name].__module__.startswith("rdvfi.") and "must read pixels" not in str(error):
            raise
        pytest.skip(f"{name} does not fit there in RDVFI-S: {error}")

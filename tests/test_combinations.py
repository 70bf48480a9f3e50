"""Any backbone, flow, basis, trajectory and renderer either work together or say why not.

A pairwise cover runs in the suite: every pair of choices of two groups appears in some model. The
full product is slow.
"""

import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

import rdvfi
import toy
from rdvfi.config import build
from rdvfi.config.recipe_nodes import CHANNELS, GROUPS, follows_backbone

CHOICES: dict[str, list[str]] = {
    "backbone": ["toy", "ends", "compact", "wan", "svd"],
    "flow": ["toy", "local", "dis", "raft", "timm-pyramid"],
    "basis": ["linear", "quadratic", "cubic", "constant-velocity", "constant-acceleration"],
    "trajectory": ["toy", "straight", "direct", "chained", "iterative"],
    "renderer": ["warp", "blend", "synthesis", "toy"],
}
SMALL: dict[str, dict[str, Any]] = {
    "wan": {"size": "toy"},
    "svd": {"size": "toy"},
    "raft": {"size": "SMALL", "weights": None, "iterations": 1},
    "timm-pyramid": {"pretrained": False, "levels": 2},
}
REFUSED = re.compile(r"carry none \(Keyframes.prior\)")
"""The one contract that some of these break; all channels follow the backbone."""
UNREAD = re.compile(r"nothing reads the group (\w+)")


def _cover() -> Iterator[tuple[str, ...]]:
    """Greedily, combinations until every pair of choices has appeared."""
    groups = list(CHOICES)
    positions = list(itertools.combinations(range(len(groups)), 2))
    everything = itertools.product(*CHOICES.values())
    pairs = {chosen: {(i, j, chosen[i], chosen[j]) for i, j in positions} for chosen in everything}
    left = set().union(*pairs.values())
    while left:
        best = max(pairs, key=lambda chosen: len(pairs[chosen] & left))
        left -= pairs[best]
        yield best


def _built(chosen: tuple[str, ...]) -> rdvfi.Interpolator:
    """The model of a configuration that a program has composed by itself, without Hydra's part in it."""
    groups: dict[str, Any] = {}
    for group, name in zip(CHOICES, chosen, strict=True):
        follows = any(follows_backbone(GROUPS[group], each) for each in GROUPS[group].parameters(name).values())
        groups[group] = {"_name_": name, **SMALL.get(name, {}), **({CHANNELS: None} if follows else {})}
    return rdvfi.build_from({"motion_area": 4096, "coarse": {"_name_": "dis"}, **groups})


def _built_by_hydra(chosen: tuple[str, ...]) -> rdvfi.Interpolator:
    """The model, without choices that its parts do not read, which are refused by name."""
    given = ["coarse=dis", "motion_area=4096"]
    for group, name in zip(CHOICES, chosen, strict=True):
        values = (f"{group}.{key}={'null' if value is None else value}" for key, value in SMALL.get(name, {}).items())
        given += [f"{group}={name}", *values]
    while True:
        try:
            return build("rdvfi_s", *given)
        except ValueError as error:
            unread = UNREAD.search(str(error))
            if unread is None:
                raise
            given = [item for item in given if not item.startswith((f"{unread[1]}=", f"{unread[1]}."))]


def _runs_or_says_why(chosen: tuple[str, ...], built: Callable[[tuple[str, ...]], rdvfi.Interpolator]) -> bool:
    """Build and draw one frame; whether it was a fit."""
    backbone, trajectory = chosen[0], chosen[3]
    needs = trajectory in ("straight", "direct") and backbone in ("toy", "wan", "svd")
    if needs:
        with pytest.raises(ValueError, match=REFUSED):
            built(chosen)
        return False
    model = built(chosen).eval()
    frames = model(toy.textured(1, 48, 64), toy.textured(1, 48, 64, seed=1), [0.0, 0.4])
    assert frames.isfinite().all()
    torch.testing.assert_close(frames[:, 0], toy.textured(1, 48, 64), atol=1e-4, rtol=0)
    return True


@torch.no_grad()
def test_every_pair_of_choices_works_or_is_refused_by_name() -> None:
    with toy.registered():
        fits = [_runs_or_says_why(chosen, _built) for chosen in _cover()]
    assert sum(fits) > len(fits) / 2


@pytest.mark.slow
@torch.no_grad()
def test_every_combination_works_or_is_refused_by_name() -> None:
    with toy.registered():
        for chosen in itertools.product(*CHOICES.values()):
            _runs_or_says_why(chosen, _built_by_hydra)

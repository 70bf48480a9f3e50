"""Any backbone, flow, basis, trajectory and renderer either work together or say why not.

A pairwise cover runs in the suite: every pair of choices of two groups appears in some model. The
full product is slow.
"""

import itertools
import re
from collections.abc import Iterator

import pytest
import torch

import rdvfi
import toy
from rdvfi.config import build

CHOICES: dict[str, list[str]] = {
    "backbone": ["toy", "ends", "compact", "wan", "svd"],
    "flow": ["toy", "local", "dis", "raft", "timm-pyramid"],
    "basis": ["linear", "quadratic", "cubic", "constant-velocity", "constant-acceleration"],
    "trajectory": ["toy", "straight", "direct", "chained", "iterative"],
    "renderer": ["warp", "blend", "synthesis", "toy"],
}
SMALL = {
    "wan": ["backbone.size=toy"],
    "svd": ["backbone.size=toy"],
    "raft": ["flow.size=SMALL", "flow.weights=null", "flow.iterations=1"],
    "timm-pyramid": ["flow.pretrained=false", "flow.levels=2"],
}
REFUSED = re.compile(r"carry none \(Keyframes.prior\)")
"""The one contract that some of these break; all channels follow the backbone."""
UNREAD = re.compile(r"nothing reads the group (\w+)")


def _cover() -> Iterator[tuple[str, ...]]:
    """Greedily, combinations until every pair of choices has appeared."""
    groups = list(CHOICES)
    positions = list(itertools.combinations(range(len(groups)), 2))
    everything = list(itertools.product(*CHOICES.values()))

    def pairs(chosen: tuple[str, ...]) -> set[tuple[int, int, str, str]]:
        return {(i, j, chosen[i], chosen[j]) for i, j in positions}

    left = set().union(*(pairs(chosen) for chosen in everything))
    while left:
        best = max(everything, key=lambda chosen: len(pairs(chosen) & left))
        left -= pairs(best)
        yield best


def _built(overrides: list[str]) -> rdvfi.Interpolator:
    """The model, without choices that its parts do not read, which are refused by name."""
    while True:
        try:
            return build("rdvfi_s", *overrides)
        except ValueError as error:
            unread = UNREAD.search(str(error))
            if unread is None:
                raise
            overrides = [item for item in overrides if not item.startswith((f"{unread[1]}=", f"{unread[1]}."))]


def _runs_or_says_why(chosen: tuple[str, ...]) -> bool:
    """Build and draw one frame; whether it was a fit."""
    backbone, trajectory = chosen[0], chosen[3]
    overrides = [f"{group}={name}" for group, name in zip(CHOICES, chosen, strict=True)]
    overrides += [small for name in chosen for small in SMALL.get(name, [])]
    overrides += ["coarse=dis", "motion_area=4096"]
    needs = trajectory in ("straight", "direct") and backbone in ("toy", "wan", "svd")
    if needs:
        with pytest.raises(ValueError, match=REFUSED):
            _built(overrides)
        return False
    model = _built(overrides).eval()
    frames = model(toy.textured(1, 48, 64), toy.textured(1, 48, 64, seed=1), [0.0, 0.4])
    assert frames.isfinite().all()
    torch.testing.assert_close(frames[:, 0], toy.textured(1, 48, 64), atol=1e-4, rtol=0)
    return True


@torch.no_grad()
def test_every_pair_of_choices_works_or_is_refused_by_name() -> None:
    with toy.registered():
        fits = [_runs_or_says_why(chosen) for chosen in _cover()]
    assert sum(fits) > len(fits) / 2


@pytest.mark.slow
@torch.no_grad()
def test_every_combination_works_or_is_refused_by_name() -> None:
    with toy.registered():
        for chosen in itertools.product(*CHOICES.values()):
            _runs_or_says_why(chosen)

"""The trainings of `claims`, the most informative first: seed 0 of all, then further seeds."""

from dataclasses import replace

from claims_training import Run

MOTION_SEEDS = LOSS_SEEDS = (0, 1)
SEEDS = (0,)
"""Seeds of the other denoisers."""
_L2 = (("theta", 1.0), ("l2", 10.0))
_FLOW = (*_L2, ("flow", 1.0))

_LONG = {"steps": 300, "scenes": 240}

MOTION = tuple(
    Run(name, steps=200, scenes=240, inner=inner)
    for name, inner in (("iterative", 7), ("direct", 7), ("iterative", 3), ("iterative", 1), ("iterative", 15))
)
LOSSES = (
    Run("theta", losses=_L2[:1]),
    Run("theta + l2", losses=_L2),
    Run("theta + l2 + features", losses=(*_L2, ("features", 2.0))),
    Run("theta + l2 + flow", losses=_FLOW),
)
ONE_STEP = Run("theta + l2 + flow", losses=_FLOW, **_LONG)
ALL_LEVELS = Run("theta + l2 + flow, all noise levels", losses=_FLOW, options=(("low", 0.02), ("rise", 1e9)), **_LONG)
DIRECT_GENERATION = Run("direct generation", losses=_L2[:1], decoded=True)


def all_runs() -> list[Run]:
    """All trainings."""
    others = (ONE_STEP, ALL_LEVELS, DIRECT_GENERATION)
    groups = ((MOTION, MOTION_SEEDS), (LOSSES, LOSS_SEEDS), (others, SEEDS))
    repeated = [replace(run, seed=seed) for runs, seeds in groups for seed in seeds[1:] for run in runs]
    return [*MOTION, *LOSSES, *others, *repeated]

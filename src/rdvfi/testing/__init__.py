"""Checks of the contracts that every registered component has to fulfil, as plain functions.

A plug-in is tested by one line in its own repository::

    def test_my_flow():
        rdvfi.testing.check_flow(rdvfi.flows.create("mine"))

Each check raises `AssertionError` with the law that is broken, and prints which laws hold and which could
not be checked (pytest shows that with ``-s`` or ``-rP``). The laws hold for any weights, so checks can be run on
fresh and on trained components. Inputs are small: a check takes well under a second for a small network.
"""

from rdvfi.testing.assertions import BATCH_TOLERANCE, TOLERANCE, assert_close
from rdvfi.testing.basis_checks import check_basis
from rdvfi.testing.flow_checks import check_flow
from rdvfi.testing.generator_checks import check_generator
from rdvfi.testing.renderer_checks import check_renderer
from rdvfi.testing.sample_inputs import SmoothTrajectory, smooth_noise, some_keyframes, some_motion
from rdvfi.testing.trajectory_checks import check_trajectory, check_trajectory_model

__all__ = [
    "BATCH_TOLERANCE",
    "TOLERANCE",
    "SmoothTrajectory",
    "assert_close",
    "check_basis",
    "check_flow",
    "check_generator",
    "check_renderer",
    "check_trajectory",
    "check_trajectory_model",
    "smooth_noise",
    "some_keyframes",
    "some_motion",
]

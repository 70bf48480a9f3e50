"""Classical flow: shifts are recovered, and large turns by similarity hypotheses."""

import copy

import cv2
import numpy as np
import pytest
import torch
from jaxtyping import Float
from skimage import data
from torch import Tensor

from rdvfi.interfaces import Reads
from rdvfi.motion.flow.similarity_hypotheses import DIS, Keypoints, similarity_flow, to_gray
from rdvfi.registry import flows
from rdvfi.testing import smooth_noise

SIZE = (160, 224)
INNER = (..., slice(40, -40), slice(40, -40))

both = pytest.mark.parametrize("name", ["dis", "sift-dis"])


def _frame(matrix: np.ndarray) -> Float[Tensor, "1 3 h w"]:
    """A photograph after an affine motion of the picture plane."""
    moved = cv2.warpAffine(data.astronaut(), matrix[:2], (512, 512), flags=cv2.INTER_LINEAR)
    window = moved[176 : 176 + SIZE[0], 144 : 144 + SIZE[1]]
    return torch.from_numpy(window.copy()).permute(2, 0, 1)[None].float() / 255.0


def _turned(degrees: float) -> tuple[Tensor, Tensor, Tensor]:
    """A frame, the same turned about its centre, and the exact flow between them."""
    centre = (144 + (SIZE[1] - 1) / 2, 176 + (SIZE[0] - 1) / 2)
    matrix = cv2.getRotationMatrix2D(centre, degrees, 1.0)
    ys, xs = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float64)
    px, py = xs + 144, ys + 176
    qx = matrix[0, 0] * px + matrix[0, 1] * py + matrix[0, 2]
    qy = matrix[1, 0] * px + matrix[1, 1] * py + matrix[1, 2]
    flow = torch.from_numpy(np.stack((qx - px, qy - py)))[None].float()
    return _frame(np.eye(3)), _frame(matrix), flow


def _error(flow: Tensor, exact: Tensor) -> float:
    return float((flow - exact)[INNER].norm(dim=1).median())


@both
def test_a_shift_is_recovered(name: str) -> None:
    shift = np.array([[1.0, 0.0, 7.0], [0.0, 1.0, -5.0]])
    flow = flows.create(name)(_frame(np.eye(3)), _frame(shift))
    assert _error(flow, torch.tensor([7.0, -5.0])[:, None, None]) < 0.2


def test_a_turn_of_sixty_degrees_is_recovered_where_patches_stay_upright() -> None:
    first, last, exact = _turned(60.0)
    cv2.setRNGSeed(0)
    assert _error(flows.create("dis")(first, last), exact) > 10.0
    assert _error(flows.create("sift-dis")(first, last), exact) < 1.0


def test_where_plain_flow_is_right_it_is_kept() -> None:
    first, last, _ = _turned(2.0)
    assert torch.equal(flows.create("sift-dis")(first, last), flows.create("dis")(first, last))


@both
def test_pictures_without_any_texture_have_no_motion(name: str) -> None:
    grey = torch.full((1, 3, 64, 64), 0.5)
    assert not flows.create(name)(grey, grey).any()
    assert torch.isfinite(flows.create(name)(grey, torch.rand(1, 3, 64, 64))).all()


@both
def test_it_repeats_and_reads_pixels(name: str) -> None:
    first, last, _ = _turned(25.0)
    estimator = flows.create(name)
    assert estimator.reads is Reads.PIXELS
    found = estimator(first, last)
    assert torch.equal(found, estimator(first, last))
    assert torch.equal(found, copy.deepcopy(estimator)(first, last))


def test_half_precision_images_are_read() -> None:
    first, last = (smooth_noise(1, 3, 64, 64, seed=seed).sigmoid().half() for seed in (0, 1))
    assert flows.create("dis")(first, last).dtype == torch.float32


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(ValueError, match="no DIS preset named 'best'; expected one of"):
        flows.create("dis", preset="best")


def test_a_picture_that_two_flows_share_is_searched_once() -> None:
    first, _, _ = _turned(0.0)
    _, last, _ = _turned(40.0)
    grays = to_gray(first[0]), to_gray(last[0])
    dis, find = DIS("medium"), Keypoints()
    for source, target in (grays, grays[::-1]):
        shared = similarity_flow(dis, source, target, find)
        assert np.array_equal(shared, similarity_flow(dis, source, target))
    assert find(grays[0]) is find(grays[0].copy())

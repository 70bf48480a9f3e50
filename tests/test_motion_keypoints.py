"""Keypoints in tensors, and the transforms that their matches agree on."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rdvfi.motion.flow.keypoints import KeypointSet, find_keypoints, match_keypoints
from rdvfi.motion.flow.patch_search import search_patches
from rdvfi.motion.flow.similarity_votes import TRANSFORMS, voted_transforms

SIZE = (160, 224)
MIDDLE = torch.tensor([(SIZE[1] - 1) / 2, (SIZE[0] - 1) / 2])


def _texture(seed: int) -> Tensor:
    """Grey levels with detail at several sizes."""
    draw = torch.Generator().manual_seed(seed)
    layers = [
        F.interpolate(torch.rand(1, 1, h, h * 7 // 5, generator=draw), SIZE, mode="bicubic", align_corners=False)
        for h in (10, 24, 60)
    ]
    return 85.0 * sum(layers, torch.zeros(1, 1, *SIZE)).clamp(0.0, 3.0)


def _turned(image: Tensor, angle: float, scale: float) -> Tensor:
    """The picture turned and enlarged about its middle: ``z`` goes to ``scale e^{i angle} z``."""
    y, x = torch.meshgrid(torch.arange(SIZE[0]) - MIDDLE[1], torch.arange(SIZE[1]) - MIDDLE[0], indexing="ij")
    c, s = math.cos(angle) / scale, math.sin(angle) / scale
    px, py = c * x + s * y, -s * x + c * y
    grid = torch.stack((2.0 * px / SIZE[1], 2.0 * py / SIZE[0]), dim=-1)[None]
    return F.grid_sample(image, grid, mode="bicubic", padding_mode="reflection", align_corners=False)


def _places(points: Tensor, angle: float, scale: float) -> Tensor:
    """Where points go."""
    z = torch.view_as_complex((points - MIDDLE).contiguous()) * (scale * complex(math.cos(angle), math.sin(angle)))
    return torch.view_as_real(z) + MIDDLE


@pytest.mark.parametrize(("angle", "scale"), [(0.0, 1.0), (0.9, 1.0), (-2.2, 1.0), (0.4, 1.3), (3.0, 0.8)])
def test_matches_follow_turns_and_scales(angle: float, scale: float) -> None:
    first = _texture(0)
    points, others = find_keypoints(first), find_keypoints(_turned(first, angle, scale))
    places, sure = match_keypoints(points, others)
    missed = (places - _places(points.places, angle, scale)).norm(dim=-1)
    right = (missed < 3.0)[sure > 0.0]
    assert len(right) > 40
    assert right.float().mean() > 0.85


def test_pictures_that_have_nothing_in_common_hardly_match() -> None:
    _, sure = match_keypoints(find_keypoints(_texture(0)), find_keypoints(_texture(1)))
    assert (sure > 0.0).float().mean() < 0.06


def test_a_point_that_occurs_twice_does_not_match() -> None:
    points = find_keypoints(_texture(0))
    twice = KeypointSet(torch.cat((points.places, points.places), 1), torch.cat((points.descriptors,) * 2, 1))
    assert (match_keypoints(points, twice)[1] == 0.0).all()


def test_shapes_do_not_depend_on_what_is_seen() -> None:
    seen, nothing = find_keypoints(_texture(0)), find_keypoints(torch.full((1, 1, *SIZE), 90.0))
    assert seen.places.shape == nothing.places.shape
    assert torch.isfinite(nothing.descriptors).all()
    assert voted_transforms(torch.full((2, 1, *SIZE), 90.0), torch.zeros(2, 2, *SIZE)).valid.sum() == 0.0


def _pasted(angle: float) -> tuple[Tensor, Tensor, Tensor]:
    """A disk that turns before a ground that rests, and the disk's mask."""
    ground, disk = _texture(2), _texture(3)
    y, x = torch.meshgrid(torch.arange(SIZE[0]) - MIDDLE[1], torch.arange(SIZE[1]) - MIDDLE[0], indexing="ij")
    mask = (x * x + y * y < 55.0**2)[None, None]
    return torch.where(mask, disk, ground), torch.where(mask, _turned(disk, angle, 1.0), ground), mask


@pytest.mark.parametrize("angle", [0.8, -1.5])
def test_what_a_flow_misses_votes_both_ways(angle: float) -> None:
    first, second, _ = _pasted(angle)
    transforms = voted_transforms(torch.cat((first, second)), torch.zeros(2, 2, *SIZE))
    assert transforms.a.shape == (2, TRANSFORMS)
    for way, sign in enumerate((1.0, -1.0)):
        assert transforms.valid[way, 0] == 1.0
        assert abs(transforms.a[way, 0] - complex(math.cos(angle), sign * math.sin(angle))) < 0.02
        middle = torch.complex(MIDDLE[0], MIDDLE[1])
        assert (transforms.a[way, 0] * middle + transforms.b[way, 0] - middle).abs() < 1.5


def test_nothing_votes_where_the_flow_is_right() -> None:
    first = _texture(4)
    transforms = voted_transforms(torch.cat((first, first)), torch.zeros(2, 2, *SIZE))
    assert transforms.valid.sum() == 0.0


def test_patches_follow_what_the_matches_agree_on() -> None:
    first, second, mask = _pasted(1.2)
    images = (torch.cat((first, second)) / 255.0).expand(-1, 3, -1, -1)
    flow = search_patches(images, torch.zeros(2, 2, *SIZE), rounds=2)[:1]
    y, x = torch.meshgrid(torch.arange(SIZE[0] // 2), torch.arange(SIZE[1] // 2), indexing="ij")
    points = 2.0 * torch.stack((x, y), dim=-1) + 0.5
    truth = ((_places(points, 1.2, 1.0) - points) / 2.0).permute(2, 0, 1)
    inside = F.avg_pool2d(mask.float(), 2)[0, 0] == 1.0
    missed = (flow[0] - truth).norm(dim=0)
    assert missed[inside].median() < 0.3
    assert flow[0].norm(dim=0)[F.max_pool2d(mask.float(), 2)[0, 0] == 0.0].median() < 0.1

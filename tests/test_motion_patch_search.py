"""Dense inverse search in tensors: what it finds, and that it keeps what it cannot improve."""

import pytest
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from rdvfi.motion.flow.gauss_newton import swap_halves
from rdvfi.motion.flow.patch_search import Patches, search_patches


def _texture(h: int, w: int, *, seed: int, cell: int = 6) -> Float[Tensor, "1 3 h w"]:
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, h // cell + 1, w // cell + 1, generator=draw)
    return F.interpolate(coarse, (h, w), mode="bicubic", align_corners=False).clamp(0.0, 1.0)


def _moved(image: Tensor, dx: float, dy: float, *, turn: float = 0.0) -> Tensor:
    """The picture shifted by (dx, dy) pixels and turned about its middle, by radians."""
    h, w = image.shape[-2:]
    c, s = torch.cos(torch.tensor(turn)), torch.sin(torch.tensor(turn))
    y, x = torch.meshgrid(torch.arange(h) - (h - 1) / 2, torch.arange(w) - (w - 1) / 2, indexing="ij")
    x, y = x - dx, y - dy
    px, py = c * x + s * y, -s * x + c * y
    grid = torch.stack((2.0 * px / w, 2.0 * py / h), dim=-1)[None]
    return F.grid_sample(image, grid.float(), padding_mode="reflection", align_corners=False)


def _inner(flow: Tensor) -> Tensor:
    return flow[0, :, 12:-12, 12:-12]


@pytest.mark.parametrize("shift", [(3.0, -2.0), (9.5, 6.25)])
def test_a_shift_is_found_from_no_motion(shift: tuple[float, float]) -> None:
    first = _texture(128, 192, seed=0, cell=12)
    found = search_patches(torch.cat((first, _moved(first, *shift))), torch.zeros(2, 2, 64, 96), rounds=2)
    wanted = torch.tensor(shift)[:, None, None] / 2.0
    assert (_inner(found) - wanted).norm(dim=0).median() < 0.05
    assert (found[1, :, 12:-12, 12:-12] + wanted).norm(dim=0).median() < 0.05


def test_a_turn_is_followed_by_its_slopes() -> None:
    first, angle = _texture(128, 192, seed=1, cell=12), 0.35
    images = torch.cat((first, _moved(first, 0.0, 0.0, turn=angle)))
    y, x = torch.meshgrid(torch.arange(64) - 31.5, torch.arange(96) - 47.5, indexing="ij")
    c, s = torch.cos(torch.tensor(angle)), torch.sin(torch.tensor(angle))
    exact = torch.stack((c * x - s * y - x, s * x + c * y - y))
    back = torch.stack((c * x + s * y - x, -s * x + c * y - y))
    guess = torch.stack((exact, back)) + 0.8
    found = search_patches(images, guess, rounds=2)
    middle = (slice(None), slice(20, -20), slice(28, -28))
    assert (found[0] - exact)[middle].norm(dim=0).median() < 0.1


def test_no_motion_is_preferred_where_nothing_moves() -> None:
    first = _texture(64, 96, seed=2)
    noisy = torch.cat((first, first)) + 0.01 * torch.randn(2, 3, 64, 96)
    found = search_patches(noisy, torch.full((2, 2, 32, 48), 1.5), rounds=2)
    assert found.norm(dim=1).median() < 0.05


def test_textureless_patches_keep_their_guess() -> None:
    grey = torch.full((2, 3, 64, 96), 0.5)
    guess = torch.full((2, 2, 32, 48), 2.0)
    found = search_patches(grey, guess, rounds=1)
    assert torch.isfinite(found).all()
    assert found.norm(dim=1).max() <= 2.0 * 2.0**0.5 + 1e-3


def test_light_that_changes_moves_nothing() -> None:
    first = _texture(64, 96, seed=3)
    found = search_patches(torch.cat((first, first + 0.08)), torch.zeros(2, 2, 32, 48), rounds=2)
    assert found.norm(dim=1).median() < 0.02


@pytest.mark.parametrize("size", [(8, 8), (33, 50), (16, 120)])
def test_patches_cover_pictures_of_any_size(size: tuple[int, int]) -> None:
    patches = Patches.of(torch.rand(2, 1, *size))
    state = torch.zeros(2, 7, patches.template.shape[1])
    state[:, 0] = 1.25
    flow = patches.dense_flow(torch.rand(2, 1, *size), state)
    assert flow.shape == (2, 2, *size)
    torch.testing.assert_close(flow[:, 0], torch.full((2, *size), 1.25), atol=1e-5, rtol=0)


def test_slopes_of_an_affine_flow_are_fitted() -> None:
    patches = Patches.of(torch.rand(1, 1, 48, 64))
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(64.0), indexing="ij")
    flow = torch.stack((1.0 + 0.1 * x - 0.2 * y, 2.0 - 0.05 * x + 0.03 * y))[None]
    state = patches.fit_affine(flow)[0].unflatten(1, patches.counts)[:, 2:-2, 2:-2].flatten(1)
    slopes = torch.tensor([0.1, -0.05, -0.2, 0.03, 0.0])[:, None].expand(5, state.shape[1])
    torch.testing.assert_close(state[2:], slopes, atol=1e-3, rtol=0)


def test_neighbours_hand_on_what_an_affine_flow_says_here() -> None:
    patches = Patches.of(torch.rand(1, 1, 48, 64))
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(64.0), indexing="ij")
    state = patches.fit_affine(torch.stack((0.1 * x - 0.2 * y, 0.3 * x))[None])
    near = patches.neighbours(state).unflatten(3, patches.counts)[0, :, :2, 6:-6, 6:-6]
    here = state.unflatten(2, patches.counts)[0, None, :2, 6:-6, 6:-6]
    torch.testing.assert_close(near, here.expand_as(near), atol=1e-2, rtol=0)


def test_a_motion_of_the_whole_picture_is_preferred_where_texture_repeats_and_not_where_it_is_faint() -> None:
    draw = torch.Generator().manual_seed(3)
    image = 100.0 + 2.0 * torch.rand(2, 1, 32, 64, generator=draw)
    image[..., 32:] += 100.0 * (torch.arange(32) % 4 < 2)  # moved by two or by six pixels it looks the same
    image[1] = image[0].roll(6, dims=-1)
    patches = Patches.of(image)
    right = torch.tensor([6.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])[:, None].expand(2, 1, 7, 7 * 15)
    preferred = torch.tensor([[[2.0, 0.0, 0.0, 0.0, 0.0, 0.0, -8.0]]]).repeat(2, 1, 1)
    found = patches.best_states(swap_halves(image), right, patches.states_of_motions(preferred))[0, 0].unflatten(
        0, (7, 15)
    )
    assert (found[:, 1:5] == 6.0).all()
    assert (found[:, 10:-2] == 2.0).all()

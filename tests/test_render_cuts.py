"""Across a cut there is no motion to draw along: renderers cross-fade."""

import pytest
import torch
from skimage import data

import rdvfi
from rdvfi.interfaces import Motion
from rdvfi.render.renderer import ONE_SCENE, TWO_SCENES, WarpRenderer, consistent_shares

TIMES = torch.tensor([0.0, 0.25, 0.5, 1.0])


def _picture(name: str) -> torch.Tensor:
    picture = torch.from_numpy(getattr(data, name)()[60:252:2, 40:360:2].copy())
    return picture.permute(2, 0, 1)[None].float() / 255.0


def _estimate(first: torch.Tensor, last: torch.Tensor) -> Motion:
    with torch.inference_mode():
        return rdvfi.build("rdvfi_s", "trajectory=straight").estimate(first, last)


@pytest.mark.parametrize("name", ["warp", "synthesis"])
def test_a_pair_of_two_scenes_is_cross_faded(name: str) -> None:
    first, last = _picture("coffee"), _picture("astronaut")
    motion = _estimate(first, last)
    assert motion.trajectory.confidence(torch.tensor([0.5])).mean() < TWO_SCENES
    assert motion.trajectory.at(TIMES)[0].abs().max() > 3.0
    torch.manual_seed(3)
    renderer = rdvfi.renderers.create(name)
    with torch.no_grad():
        for parameter in renderer.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
        drawn = renderer(first, last, motion, TIMES)
    faded = torch.lerp(first[:, None], last[:, None], TIMES[None, :, None, None, None])
    torch.testing.assert_close(drawn, faded, atol=1e-5, rtol=0.0)


def test_a_pair_of_one_scene_is_drawn_along_its_motion_and_nothing_else() -> None:
    first = _picture("coffee")
    last = first.roll((2, 6), (2, 3))
    motion = _estimate(first, last)
    trajectory = motion.trajectory
    assert trajectory.confidence(torch.tensor([0.5])).mean() > ONE_SCENE
    flows = trajectory.at(TIMES)
    shares = consistent_shares(trajectory, TIMES, flows)
    mask = shares[0] / (shares[0] + shares[1])
    nothing = torch.zeros_like(mask).expand(-1, -1, 3, -1, -1)
    drawn = WarpRenderer()(first, last, motion, TIMES)
    assert torch.equal(drawn, rdvfi.ops.render(first, last, *flows, mask, nothing))

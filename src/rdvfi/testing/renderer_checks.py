"""The contract of a renderer."""

import torch
from torch import Tensor

from rdvfi.interfaces import FlowGrid, Motion, Renderer
from rdvfi.scene_decision import SceneDecision
from rdvfi.testing.assertions import BATCH_TOLERANCE, CheckReport, assert_close, call_unchanged
from rdvfi.testing.known_motion import check_drawn_motion
from rdvfi.testing.sample_inputs import SmoothTrajectory, smooth_noise, some_keyframes, some_motion


def check_renderer(renderer: Renderer, *, latent_channels: int | None = None, stride: int = 8) -> None:
    """Check a renderer: inputs at times 0 and 1, continuity, sizes and types, direction of motion, and scene decision.

    Args:
        renderer: The renderer to check.
        latent_channels: Channels of the latents of keyframes; by default the declared number, or 16.
        stride: Motion-size pixels per latent pixel.
    """
    channels = latent_channels or renderer.latent_channels or 16
    for motion_size, size in (((48, 64), (48, 64)), ((64, 48), (131, 97)), ((32, 32), (33, 63))):
        img0, img1 = (smooth_noise(2, 3, *size, seed=seed).sigmoid() for seed in (2, 3))
        for flow_size in (motion_size, tuple(side // stride for side in motion_size)):
            for grid in sorted(renderer.grids, key=lambda grid: grid.name):
                motion = some_motion(motion_size, flow_size=flow_size, channels=channels, stride=stride, grid=grid)
                _check_frames(renderer, img0, img1, motion)
    _check_scenes(renderer, channels, stride)

    def halfway(first: Tensor, last: Tensor, shift: tuple[float, float], grid: FlowGrid) -> Tensor:
        h, w = first.shape[-2:]
        straight = torch.tensor(shift)[None, :, None, None].expand(1, 2, h, w)
        # On the SOURCE grid a pixel of the first frame moves by the shift; on the TARGET grid it is looked up there.
        straight = straight if grid is FlowGrid.TARGET else -straight
        keyframes = some_keyframes((h, w), batch=1, channels=channels, stride=stride)
        trajectory = SmoothTrajectory(straight, torch.zeros_like(straight), grid)
        motion = Motion.of(keyframes, trajectory, same_scene=True)
        return renderer(first, last, motion, torch.tensor([0.5]))[:, 0]

    report = CheckReport("check_renderer", renderer)
    if renderer.follows_motion:
        check_drawn_motion(renderer, halfway)
        report.passed("what moves is drawn in the motion's direction")
    else:
        report.skipped("direction of the motion", "it declares follows_motion=False")
    report.passed("times 0 and 1 return the inputs", "continuous at both ends", "sizes and types stay", "repeats")
    report.passed(f"draws on the {', '.join(sorted(grid.name for grid in renderer.grids))} grid")
    report.passed("two scenes get a cross-fade, one scene none")
    report.passed("a frame needs no other, a batch does not matter, arguments stay")
    report.print()


def _check_scenes(renderer: Renderer, channels: int, stride: int) -> None:
    """Assert that it obeys the scene decision: a cross-fade between two scenes."""
    img0, img1 = (smooth_noise(2, 3, 48, 64, seed=seed).sigmoid() for seed in (2, 3))
    times = torch.tensor([0.25, 0.5])
    grid = min(renderer.grids, key=lambda grid: grid.name)
    motion = some_motion((48, 64), channels=channels, stride=stride, grid=grid, same_scene=False)
    assert isinstance(motion.scene, SceneDecision)
    share = times[None, :, None, None, None]
    faded = torch.lerp(img0[:, None], img1[:, None], share)
    frames = renderer(img0, img1, motion, times)
    assert_close(frames, faded, tolerance=0.02, law="between two scenes it must cross-fade, as the motion says")


def _check_frames(renderer: Renderer, img0: Tensor, img1: Tensor, motion: Motion) -> None:
    times = torch.tensor([0.0, 0.001, 0.31, 0.5, 0.999, 1.0])
    frames = call_unchanged(lambda *images: renderer(*images, motion, times), img0, img1)
    expected = (img0.shape[0], len(times), *img0.shape[1:])
    assert frames.shape == expected, f"frames must be {expected}, got {tuple(frames.shape)}"
    assert frames.dtype == img0.dtype, "frames must have the type of the images"
    assert torch.isfinite(frames).all(), "frames must be finite"
    assert_close(frames[:, 0], img0, law="time 0 must return the first frame")
    assert_close(frames[:, -1], img1, law="time 1 must return the last frame")
    for near, image in ((frames[:, 1], img0), (frames[:, -2], img1)):
        distance = float((near - image).abs().max())
        assert distance < 0.05, f"times next to an end must look like it: off by {distance:.3g}"
    assert torch.equal(frames, renderer(img0, img1, motion, times)), "frames must repeat"
    alone = renderer(img0, img1, motion, times[2:3])
    assert_close(alone, frames[:, 2:3], tolerance=BATCH_TOLERANCE, law="a frame must not depend on others")

"""The coarse flow on tensors alone: its least-squares steps, its start, its symmetry, its shapes."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

import rdvfi
from rdvfi.geometry import resize_flow
from rdvfi.motion.flow.gauss_newton import NormalisedImages, Window, fit, fit_without_motion, window_mean
from rdvfi.motion.flow.global_local import GlobalLocal, match_brightness
from rdvfi.motion.flow.local_refinement import RefinementInputs, RefinementStep, consensus
from rdvfi.motion.flow.match_ops import upsample_convex
from rdvfi.registry import flows

SMALL = {"width": 8, "fine_width": 8, "matching_width": 16, "blocks": 1, "matching_steps": 1, "matching_fine_steps": 1}


def _made(*, shaken: bool = False, **settings: int) -> GlobalLocal:
    torch.manual_seed(0)
    flow = flows.create("global-local", **(SMALL | settings))
    assert isinstance(flow, GlobalLocal)
    if shaken:
        with torch.no_grad():
            for parameter in flow.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    return flow.eval()


def _texture(n: int, h: int, w: int, *, seed: int, cell: int = 4) -> Float[Tensor, "n 3 h w"]:
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 3, h // cell + 1, w // cell + 1, generator=draw)
    return F.interpolate(coarse, (h, w), mode="bicubic", align_corners=False).clamp(0.0, 1.0)


def _shifted(dx: float, dy: float, *, h: int = 96, w: int = 128) -> tuple[Tensor, Tensor]:
    """A picture and the same moved by a fraction of a pixel, both cut from a finer one."""
    fine, scale = _texture(1, 8 * (h + 16), 8 * (w + 16), seed=3, cell=48), 8

    def cut(x: float, y: float) -> Tensor:
        left, top = round(scale * (8 - x)), round(scale * (8 - y))
        return F.avg_pool2d(fine[..., top : top + scale * h, left : left + scale * w], scale)

    return cut(0.0, 0.0), cut(dx, dy)


@pytest.mark.parametrize("stride", [4, 2])
def test_least_squares_steps_find_a_fraction_of_a_pixel(stride: int) -> None:
    first, second = _shifted(0.625, -0.375)
    surface = NormalisedImages.of(torch.cat((first, second)))
    window = Window.of(surface, stride, (3, 7))
    h, w = first.shape[-2:]
    flow = torch.zeros(2, 2, h // stride, w // stride)
    for _ in range(4):
        flow = flow + fit(surface, window, flow).steps[1]
    inner = (slice(None), slice(None), slice(4, -4), slice(4, -4))
    for row, sign in ((0, 1.0), (1, -1.0)):
        wanted = sign * torch.tensor([0.625, -0.375])[:, None, None]
        error = (stride * flow[inner][row] - wanted).norm(dim=0)
        assert error.median() < 0.08


def test_light_and_contrast_do_not_move_the_steps() -> None:
    first, second = _shifted(0.5, 0.25)
    surface = NormalisedImages.of(torch.cat((first, 0.7 * second + 0.1)))
    window, flow = Window.of(surface, 4, (3, 7)), torch.zeros(2, 2, 24, 32)
    for _ in range(4):
        flow = flow + fit(surface, window, flow).steps[1]
    error = (4 * flow[0, :, 4:-4, 4:-4] - torch.tensor([0.5, 0.25])[:, None, None]).norm(dim=0)
    assert error.median() < 0.08


def test_equal_pictures_have_no_misfit_and_no_step() -> None:
    surface = NormalisedImages.of(_texture(1, 64, 64, seed=1).repeat(2, 1, 1, 1))
    window = Window.of(surface, 4, (3, 7))
    found = fit(surface, window, torch.zeros(2, 2, 16, 16))
    assert found.residual.abs().max() < 1e-4
    assert max(step.abs().max() for step in found.steps) < 1e-3
    assert fit_without_motion(surface, window).abs().max() < 2e-3


def test_window_means_keep_constants_and_are_means() -> None:
    maps = torch.randn(2, 3, 12, 15)
    torch.testing.assert_close(window_mean(maps, 5)[..., 2:-2, 2:-2], F.avg_pool2d(maps, 5, 1))
    torch.testing.assert_close(window_mean(torch.ones(1, 1, 6, 7), 7), torch.ones(1, 1, 6, 7))


def test_before_training_the_flow_is_the_matched_one() -> None:
    flow = _made()
    with torch.no_grad():
        for parameter in flow.matching.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        first, second = _texture(1, 64, 96, seed=0), _texture(1, 64, 96, seed=1)
        found = flow.find(first, second)
        matched = 0.5 * F.avg_pool2d(found.matched.flows[-1], 2)
        torch.testing.assert_close(found.flows[0], matched)
        torch.testing.assert_close(found.flows[flow.steps - 1], matched)
        bilinear = resize_flow(matched, (32, 48))
        torch.testing.assert_close(found.flows[-1], bilinear, atol=0.02, rtol=0.02)
        onward, _ = _made(patch_rounds=0).both_ways(first, second)
        assert onward.shape == (1, 2, 64, 96)


@torch.no_grad()
def test_swapping_the_pictures_swaps_the_flows() -> None:
    flow = _made(shaken=True)
    first, second = _texture(2, 64, 96, seed=0), _texture(2, 64, 96, seed=1)
    onward, back = flow.both_ways(first, second)
    assert not torch.allclose(onward, back, atol=0.1)
    other = flow.both_ways(second, first)
    torch.testing.assert_close(other[1], onward, atol=0.05, rtol=0)
    torch.testing.assert_close(other[0], back, atol=0.05, rtol=0)


@torch.no_grad()
def test_pictures_of_odd_sizes_are_extended_by_their_borders() -> None:
    flow = _made(shaken=True)
    first, second = _texture(1, 48, 80, seed=0), _texture(1, 48, 80, seed=1)
    wide = [F.pad(x, (0, 16, 0, 16), mode="replicate") for x in (first, second)]
    torch.testing.assert_close(flow(first, second), flow(wide[0], wide[1])[..., :48, :80])


def test_a_share_of_no_motion_is_bounded() -> None:
    """However sure the network is, a flow comes to rest and is not turned round."""
    step = RefinementStep(4, 8, torch.nn.Identity())
    with torch.no_grad():
        assert step.answer.bias is not None
        step.answer.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 50.0]))
    flow = 30.0 * torch.randn(1, 2, 6, 6)
    nothing = torch.zeros_like(flow)
    added, _ = step(
        torch.zeros(1, 8, 6, 6), [torch.zeros(1, 4, 6, 6)], torch.stack([nothing, nothing, nothing, -flow], dim=1)
    )
    torch.testing.assert_close(flow + added, nothing)


def test_the_consensus_follows_those_that_are_trusted() -> None:
    flow, trust = torch.zeros(1, 2, 9, 9), torch.ones(1, 1, 9, 9)
    flow[..., 4, 4], trust[..., 4, 4] = 50.0, 0.0
    assert consensus(flow, trust).abs().max() == 0.0


def test_doubling_keeps_constants_and_chooses_neighbours() -> None:
    flow = torch.randn(1, 2, 5, 6)
    torch.testing.assert_close(
        upsample_convex(torch.ones(1, 2, 5, 6), torch.randn(1, 36, 5, 6), 2), torch.full((1, 2, 10, 12), 2.0)
    )
    logits = torch.full((1, 36, 5, 6), -50.0)
    logits[:, 4 * 4 : 4 * 4 + 4] = 50.0  # the cell itself
    made = upsample_convex(flow, logits, 2)
    torch.testing.assert_close(made, 2.0 * flow.repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_every_weight_learns() -> None:
    flow = _made(shaken=True, fine_steps=2)
    first, second = _texture(1, 64, 96, seed=0), _texture(1, 64, 96, seed=1)
    found = flow.find(first, second)
    loss = sum(f.square().mean() for f in (*found.flows, *found.matched.flows)) + found.matched.logits.mean()
    assert isinstance(loss, Tensor)
    loss.backward()
    silent = [name for name, p in flow.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert silent == []


def test_shapes_depend_on_sizes_alone_and_no_value_is_read() -> None:
    """Tracing with tensors that have no values fails where a value decides or leaves the device."""
    flow = _made(shaken=True).requires_grad_(False)
    with FakeTensorMode(allow_non_fake_inputs=True):
        first, second = torch.rand(1, 3, 64, 96), torch.rand(1, 3, 64, 96)
        graph = make_fx(lambda a, b: flow.both_ways(a, b))(first, second)
    names = {str(node.target) for node in graph.graph.nodes if node.op == "call_function"}
    assert any("backward_warp" in name for name in names)
    assert not {name for name in names if "local_scalar" in name or "nonzero" in name or "to.device" in name}


@torch.no_grad()
def test_it_can_be_exported() -> None:
    flow = _made(shaken=True)
    first, second = _texture(1, 64, 96, seed=0), _texture(1, 64, 96, seed=1)
    program = torch.export.export(flow, (first, second), strict=False)
    torch.testing.assert_close(program.module()(first, second), flow(first, second), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_half_precision_networks_keep_coordinates_exact() -> None:
    flow = _made(shaken=True)
    first, second = _texture(1, 64, 96, seed=0), _texture(1, 64, 96, seed=1)
    exact = flow.find(first, second).flows[-1]
    assert flow.to(torch.bfloat16)(first, second).dtype == torch.float32
    half = flow.find(first, second).flows[-1]
    assert half.dtype == torch.float32
    assert (half - exact).abs().mean() < 0.2 * exact.abs().mean()


@torch.no_grad()
def test_a_little_noise_moves_the_flow_a_little() -> None:
    flow = _made(shaken=True)
    first, second = _texture(1, 64, 96, seed=0), _texture(1, 64, 96, seed=1)
    noisy = [x + 1e-4 * torch.randn_like(x) for x in (first, second)]
    moved, plain = flow.find(noisy[0], noisy[1]).flows[-1], flow.find(first, second).flows[-1]
    assert (moved - plain).abs().max() < 0.1


def test_the_look_reads_as_many_channels_as_it_says() -> None:
    surface = NormalisedImages.of(_texture(2, 64, 64, seed=0))
    inputs, alternatives = RefinementInputs.of(surface, 4, torch.zeros(2, 1, 16, 16)).at(torch.randn(2, 2, 16, 16))
    assert sum(x.shape[1] for x in inputs) == 16 + 18
    assert alternatives.shape == (2, 4, 2, 16, 16)


def test_numbers_of_steps_are_checked() -> None:
    with pytest.raises(ValueError, match="steps must be at least 1"):
        _made(steps=0)
    with pytest.raises(ValueError, match="patch_rounds must be 0 to 128"):
        _made(patch_rounds=-1)


PROGRAM = """
import sys, torch, rdvfi
model = rdvfi.build("rdvfi_s")
x = torch.rand(1, 3, 64, 96)
model.estimate(x, x)
assert "cv2" not in sys.modules, "OpenCV was imported"
"""


def test_estimating_with_it_needs_no_opencv() -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)


def test_a_model_takes_it() -> None:
    model = rdvfi.build("rdvfi_s")
    x = torch.rand(1, 3, 64, 96)
    assert model(x, x, timesteps=[0.5]).shape == (1, 1, 3, 64, 96)


def test_a_model_may_leave_occluded_flow_as_it_was_found() -> None:
    model = rdvfi.build("rdvfi_s", "backbone.fill=false")
    first, second = _texture(1, 64, 96, seed=0), _texture(1, 64, 96, seed=1)
    prior = model.estimate(first, second).keyframes.prior
    assert prior is not None
    coarse = getattr(model.generator, "coarse")  # noqa: B009
    torch.testing.assert_close(prior.end_flows[0, 0], coarse(first, second)[0], atol=1e-4, rtol=0)


def test_what_fades_to_black_is_compared_at_the_brightness_that_it_had() -> None:
    first, second = _texture(1, 64, 96, seed=0), _texture(1, 64, 96, seed=1)
    pair = torch.cat((first, second))
    torch.testing.assert_close(match_brightness(pair), pair)  # means alike: as they are
    dark = match_brightness(torch.cat((first, 0.1 * first)))
    torch.testing.assert_close(dark[:1], first)
    torch.testing.assert_close(dark[1:], first, rtol=0.07, atol=0.01)

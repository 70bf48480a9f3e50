"""Learned matching: its laws, what training finds, and its flow as a hypothesis of DIS."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from rdvfi.geometry import resize_flow
from rdvfi.interfaces import FlowEstimator, Reads
from rdvfi.motion.flow.attention import Attention, rotate
from rdvfi.motion.flow.match_ops import both_directions, expected_flow, sample_scores, upsample_convex
from rdvfi.motion.flow.matched_dis import MatchedDIS, penalty_of
from rdvfi.motion.flow.matching import MatchedFlows, Matching
from rdvfi.motion.flow.similarity_hypotheses import DIS, Hypothesis, similarity_flow, to_gray
from rdvfi.ops.occlusion import forward_backward_error
from rdvfi.registry import flows
from rdvfi.training.losses.flow_losses import flow_loss, matching_loss

SMALL = {"width": 16, "heads": 2, "blocks": 1, "steps": 1, "fine_steps": 1}


def _shaken(flow: FlowEstimator) -> Matching:
    assert isinstance(flow, Matching)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return flow


def _blocks(n: int, h: int, w: int, *, seed: int) -> Float[Tensor, "n 3 h w"]:
    draw = torch.Generator().manual_seed(seed)
    return F.interpolate(torch.rand(n, 3, h // 4, w // 4, generator=draw), (h, w))


@torch.no_grad()
def test_swapping_the_pictures_swaps_the_flows() -> None:
    flow = _shaken(flows.create("matching", **SMALL))
    first, second = _blocks(2, 48, 64, seed=0), _blocks(2, 48, 64, seed=1)
    onward, back = flow.both_ways(first, second)
    assert not torch.allclose(onward, back, atol=0.1)
    other = flow.both_ways(second, first)
    torch.testing.assert_close(other[1], onward, atol=1e-4, rtol=0)
    torch.testing.assert_close(other[0], back, atol=1e-4, rtol=0)
    torch.testing.assert_close(flow(first, second), onward, atol=0, rtol=0)


@torch.no_grad()
def test_the_default_for_both_ways_is_each_way_alone() -> None:
    flow = flows.create("dis")
    first, second = _blocks(1, 48, 64, seed=0), _blocks(1, 48, 64, seed=1)
    onward, back = flow.both_ways(first, second)
    assert torch.equal(onward, flow(first, second))
    assert torch.equal(back, flow(second, first))


@torch.no_grad()
def test_pictures_of_odd_sizes_are_extended_by_their_borders() -> None:
    flow = _shaken(flows.create("matching", **SMALL))
    pair = _blocks(1, 48, 64, seed=0), _blocks(1, 48, 64, seed=1)
    cut = [image[..., :45, :50] for image in pair]
    wide = [F.pad(image, (0, 14, 0, 3), mode="replicate") for image in cut]
    found = flow(cut[0], cut[1])
    assert found.shape == (1, 2, 45, 50)
    assert torch.equal(found, flow(wide[0], wide[1])[..., :45, :50])


def test_a_sure_match_is_the_flow_and_a_doubtful_one_spreads() -> None:
    scores = torch.full((1, 12, 12), -20.0)
    y, x = torch.meshgrid(torch.arange(3), torch.arange(4), indexing="ij")
    target = ((y + 1) % 3) * 4 + (x + 2) % 4
    scores[0, torch.arange(12), target.flatten()] = 20.0
    flow, spread = expected_flow(scores, (3, 4))
    onward = torch.stack(((x + 2) % 4 - x, (y + 1) % 3 - y)).float()
    back = torch.stack(((x - 2) % 4 - x, (y - 1) % 3 - y)).float()
    torch.testing.assert_close(flow, torch.stack((onward, back)), atol=1e-4, rtol=0)
    assert spread.abs().max() < 1e-3
    scores[0, 0] = -20.0
    scores[0, 0, [0, 3]] = 20.0  # half here, half three to the right: a variance of 1.5^2
    flow, spread = expected_flow(scores, (3, 4))
    torch.testing.assert_close(flow[0, :, 0, 0], torch.tensor([1.5, 0.0]), atol=1e-4, rtol=0)
    torch.testing.assert_close(spread[0, 0, 0, 0].expm1(), torch.tensor(2.25), atol=1e-3, rtol=0)


def test_the_mean_match_is_that_of_the_dual_softmax() -> None:
    scores = 3.0 * torch.randn(2, 20, 20)
    logits = MatchedFlows(scores, [], torch.zeros(4, 1, 4, 5)).logits
    shares = logits.softmax(2)
    product = both_directions(scores).softmax(2) * both_directions(scores).softmax(1)
    torch.testing.assert_close(shares, product / product.sum(2, keepdim=True))
    y, x = torch.meshgrid(torch.arange(4.0), torch.arange(5.0), indexing="ij")
    places = torch.stack((x, y))
    mean = (shares @ places.flatten(1).T).transpose(1, 2).unflatten(2, (4, 5))
    flow, _ = expected_flow(scores, (4, 5))
    torch.testing.assert_close(flow, mean - places, atol=1e-4, rtol=0)


def test_scores_are_looked_up_around_where_the_flow_leads() -> None:
    scores = torch.randn(2, 30, 30)
    flow = torch.zeros(2, 2, 5, 6)
    flow[:, 0], flow[:, 1] = 1.0, -1.0
    found = sample_scores(scores, flow, 1)
    volume = scores.unflatten(2, (5, 6)).unflatten(1, (5, 6))
    for k, (dy, dx) in enumerate((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)):
        expected = volume[:, 2, 3, 2 - 1 + dy, 3 + 1 + dx]
        torch.testing.assert_close(found[:, k, 2, 3], expected)


def test_convex_combinations_keep_constants_and_choose_neighbours() -> None:
    flow = torch.tensor([1.5, -2.0])[None, :, None, None].expand(1, 2, 3, 4)
    made = upsample_convex(flow, torch.randn(1, 144, 3, 4), 4)
    torch.testing.assert_close(made, 4.0 * flow[..., :1, :1].expand(1, 2, 12, 16))
    flow = torch.randn(1, 2, 3, 4)
    weights = torch.full((1, 9, 16, 3, 4), -1e4)
    weights[:, 5] = 0.0  # the neighbour to the right
    made = upsample_convex(flow, weights.flatten(1, 2), 4)
    right = 4.0 * flow[..., [1, 2, 3, 3]]
    torch.testing.assert_close(made, right.repeat_interleave(4, 2).repeat_interleave(4, 3))


def test_rotated_products_depend_on_distance_alone() -> None:
    one, other = torch.randn(2, 1, 1, 24, 1, 1)
    query = rotate(one.expand(1, 1, 24, 6, 9), 1.0)
    key = rotate(other.expand(1, 1, 24, 6, 9), 1.0)

    def product(y: int, x: int, dy: int, dx: int) -> Tensor:
        return (query[0, 0, :, y, x] * key[0, 0, :, y + dy, x + dx]).sum()

    torch.testing.assert_close(product(0, 1, 3, 4), product(2, 4, 3, 4))
    assert (product(0, 1, 3, 4) - product(0, 1, 3, 0)).abs() > 1e-3
    # A cell of twice the step lies in the middle of two.
    wide = rotate(other.expand(1, 1, 24, 3, 4), 2.0)
    near = [(query[0, 0, :, 2, x] * wide[0, 0, :, 1, 1]).sum() for x in (2, 3)]
    mirrored = [(wide[0, 0, :, 1, 1] * query[0, 0, :, 3, x]).sum() for x in (2, 3)]
    assert (near[0] - near[1]).abs() > 1e-4
    assert torch.stack(mirrored).isfinite().all()


def test_half_precision_networks_keep_coordinates_exact() -> None:
    torch.manual_seed(0)
    flow = Matching(32, heads=2, blocks=1, steps=1, fine_steps=1)
    wall = _blocks(1, 64, 96, seed=0)
    with torch.autocast("cpu", torch.bfloat16):
        found = flow.find(wall, wall)
    assert {estimate.dtype for estimate in found.flows} == {torch.float32}
    again, _ = expected_flow(found.scores, (8, 12))
    assert torch.equal(found.flows[0], again)  # outside of the reduced precision
    found.flows[-1].sum().backward()
    assert flow.sharpness.grad is not None
    assert flow.sharpness.grad.isfinite()


def test_heads_that_do_not_divide_the_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="four times the heads; got 20 and 2"):
        Attention(20, 2)


def _shift(seed: int, draw: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Two windows on a wall, and by how much the second is shifted."""
    wall = _blocks(2, 112, 128, seed=seed)
    dx, dy = torch.randint(-24, 25, (2,), generator=draw).tolist()
    exact = torch.tensor([dx, dy], dtype=torch.float32)[:, None, None]
    return wall[..., 24:88, 24:104], wall[..., 24 - dy : 88 - dy, 24 - dx : 104 - dx], exact


def test_training_finds_shifts_of_several_cells() -> None:
    torch.manual_seed(0)
    flow = Matching(32, heads=2, blocks=1, steps=1, fine_steps=1)
    optimizer = torch.optim.Adam(flow.parameters(), lr=2e-3)
    draw, seen = torch.Generator().manual_seed(1), torch.ones(4, 8, 10)

    @torch.no_grad()
    def error() -> float:
        again, total = torch.Generator().manual_seed(2), 0.0
        for k in range(10):
            first, second, exact = _shift(1000 + k, again)
            total += float((flow(first, second) - exact)[..., 24:-24, 24:-24].abs().mean())
        return total / 10.0

    before = error()
    for step in range(60):
        first, second, exact = _shift(step, draw)
        found = flow.find(first, second)
        cells = exact.expand(2, 2, 8, 10) / 8.0
        cells = torch.cat((cells, -cells))
        loss = matching_loss(found.logits, cells, seen)
        for estimate in found.flows:
            loss = loss + flow_loss(resize_flow(estimate, (8, 10)), cells, seen)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert before > 9.0
    assert error() < 5.0


class _Known(FlowEstimator):
    """Answers with given flows."""

    reads = Reads.PIXELS

    def __init__(self, onward: Tensor, back: Tensor) -> None:
        super().__init__()
        self.onward, self.back = onward, back

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        return self.onward

    def both_ways(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        return self.onward, self.back


def _hatch(x: int) -> Float[Tensor, "1 3 h w"]:
    """A dark patch with a pattern of its own on a faint ground that rests."""
    ground = F.interpolate(_blocks(1, 32, 32, seed=9), (96, 160), mode="bilinear")
    image = 0.65 + 0.3 * ground
    image[..., 40:52, x : x + 12] = 0.5 * _blocks(1, 12, 12, seed=3)
    return image


def test_a_hypothesis_finds_what_moves_by_four_times_its_size() -> None:
    first, second = _hatch(24), _hatch(72)
    exact, back = torch.zeros(2, 1, 2, 96, 160)
    exact[:, 0, 40:52, 24:36], back[:, 0, 40:52, 72:84] = 48.0, -48.0
    inside = (slice(None), slice(None), slice(42, 50), slice(26, 34))
    missed = flows.create("sift-dis")(first, second)
    found, returned = MatchedDIS(_Known(exact, back), preset="medium", shrink=1).both_ways(first, second)
    assert (missed - exact)[inside].norm(dim=1).mean() > 40.0
    assert (found - exact)[inside].norm(dim=1).mean() < 0.1
    assert (returned - back)[..., 42:50, 74:82].norm(dim=1).mean() < 0.1
    around, before = (found - exact).norm(dim=1).mean(), (missed - exact).norm(dim=1).mean()
    assert around < 0.5 * before


def test_a_hypothesis_that_explains_nothing_is_left_alone() -> None:
    wall = _blocks(1, 96, 192, seed=5)
    first, second = wall[..., 10:170], wall[..., 6:166]
    wrong = torch.full((1, 2, 96, 160), 31.0)
    found = MatchedDIS(_Known(wrong, -wrong), preset="medium", shrink=1)(first, second)
    exact = torch.tensor([4.0, 0.0])[:, None, None]
    assert (found - exact)[..., 16:-16, 16:-16].norm(dim=1).mean() < 0.3


def test_a_hypothesis_must_be_better_by_its_price() -> None:
    wall = _blocks(1, 96, 160, seed=5)
    grays = to_gray(wall[0]), to_gray(wall[0])
    field = np.full((96, 160, 2), 9.0, np.float32)
    for price, flow in ((0.0, 0.0), (-300.0, 9.0)):
        given = Hypothesis(field, np.full((96, 160), price, np.float32))
        found = similarity_flow(DIS("medium"), *grays, learned=given)
        assert np.abs(found - flow)[16:-16, 16:-16].mean() < 0.1


def test_a_guess_guides_one_call_and_no_other() -> None:
    first, second = (to_gray(_hatch(x)[0]) for x in (24, 72))
    exact = np.zeros((96, 160, 2), np.float32)
    exact[40:52, 24:36, 0] = 48.0
    dis = DIS("medium")
    before = dis(first, second)
    guided = dis.estimate_from(first, second, exact)
    assert abs(guided[44:48, 28:32, 0].mean() - 48.0) < 1.0
    assert abs(before[44:48, 28:32, 0].mean() - 48.0) > 20.0
    assert np.array_equal(dis(first, second), before)
    assert exact.max() == 48.0


def test_a_learned_flow_costs_where_it_does_not_return() -> None:
    flow = torch.full((1, 2, 40, 80), 20.0)
    returning, lost = -flow, -flow
    lost = lost.clone()
    lost[..., 60:] = 5.0
    assert forward_backward_error(flow, returning).max() < 1e-6
    apart = forward_backward_error(flow, lost)[:, 0]
    assert apart[..., :20, :35].max() < 1e-6
    assert (apart[..., :20, 45:60] > 2.0).all()
    price = penalty_of(apart[0].numpy())
    assert price[:15, :30].max() == 0.0
    assert (price[:15, 50:60] == 8.0).all()


def test_between_two_scenes_a_learned_flow_is_not_asked() -> None:
    first, second = _hatch(24), _hatch(72)
    exact = torch.zeros(1, 2, 96, 160)
    exact[:, 0, 40:52, 24:36] = 48.0
    lost = torch.full_like(exact, 30.0)
    found = MatchedDIS(_Known(exact, lost), preset="medium", shrink=1)(first, second)
    assert torch.equal(found, flows.create("sift-dis")(first, second))


def test_a_learned_flow_of_latents_is_refused() -> None:
    with pytest.raises(TypeError, match="must read pixels"):
        MatchedDIS(flows.create("local"), preset="medium", shrink=1)


class _Watched(_Known):
    """Remembers the size of what it saw."""

    def both_ways(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        self.size = (first.shape[-2], first.shape[-1])
        return super().both_ways(first, second)


def test_the_learned_flow_sees_smaller_pictures_and_counts_in_pixels_of_the_large_ones() -> None:
    first, second = _hatch(24), _hatch(72)
    exact, back = torch.zeros(2, 1, 2, 48, 80)
    exact[:, 0, 20:26, 12:18], back[:, 0, 20:26, 36:42] = 24.0, -24.0
    learned = _Watched(exact, back)
    found = MatchedDIS(learned, preset="medium", shrink=2)(first, second)
    assert learned.size == (48, 80)
    wanted = torch.tensor([48.0, 0.0])[:, None, None]
    assert (found - wanted)[..., 42:50, 26:34].norm(dim=1).mean() < 0.5
    with pytest.raises(ValueError, match="at least 1; got 0"):
        MatchedDIS(learned, preset="medium", shrink=0)

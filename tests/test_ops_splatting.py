"""Forward warping: worked out by hand, its laws, its gradients and its deterministic form."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rdvfi.ops import backward_warp, splat, splat_sum

SEEDS = st.integers(0, 2**16)
LAWS = settings(max_examples=15, deadline=None, derandomize=True)


def _ones(values: Tensor) -> Tensor:
    return torch.ones_like(values[:, :1])


def _case(
    seed: int, n: int = 2, c: int = 3, h: int = 9, w: int = 11, reach: float = 3.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Values, flow and positive weights."""
    own = torch.Generator().manual_seed(seed)
    flow = reach * torch.randn(n, 2, h, w, generator=own)
    return torch.randn(n, c, h, w, generator=own), flow, torch.rand(n, 1, h, w, generator=own) + 0.1


def _staying(seed: int, n: int, h: int, w: int) -> Tensor:
    """A random flow whose arrivals all lie in the picture."""
    own = torch.Generator().manual_seed(seed)
    goal = torch.rand(n, 2, h, w, generator=own) * torch.tensor([w - 1.0, h - 1.0])[:, None, None]
    ys, xs = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    return goal - torch.stack((xs, ys))


def test_a_splat_worked_out_by_hand() -> None:
    """Pixels 1, 2 and 4 of a row move by 0.25, by -1 and away; 8 stays."""
    values = torch.tensor([1.0, 2.0, 4.0, 8.0]).view(1, 1, 1, 4)
    flow = torch.zeros(1, 2, 1, 4)
    flow[0, 0, 0] = torch.tensor([0.25, -1.0, 100.0, 0.0])
    weights = torch.tensor([1.0, 3.0, 1.0, 0.5]).view(1, 1, 1, 4)
    moved, total = splat_sum(values, flow, weights)
    torch.testing.assert_close(total.flatten(), torch.tensor([3.75, 0.25, 0.0, 0.5]))
    torch.testing.assert_close(moved.flatten(), torch.tensor([6.75, 0.25, 0.0, 4.0]))

    mean, _ = splat(values, flow, mode="average")
    torch.testing.assert_close(mean.flatten(), torch.tensor([2.75 / 1.75, 1.0, 0.0, 8.0]))
    linear, _ = splat(values, flow, weights, mode="linear")
    torch.testing.assert_close(linear.flatten(), torch.tensor([1.8, 1.0, 0.0, 8.0]))
    soft, relative = splat(values, flow, weights.log(), mode="softmax")
    torch.testing.assert_close(soft, linear)
    torch.testing.assert_close(relative, total / 3.0)
    plain, _ = splat(values, flow, mode="sum")
    torch.testing.assert_close(plain.flatten(), torch.tensor([2.75, 0.25, 0.0, 8.0]))


@pytest.mark.parametrize("mode", ["sum", "average", "linear", "softmax"])
def test_without_flow_nothing_moves(mode: str) -> None:
    values, flow, weights = _case(0)
    given_weights = None if mode in ("sum", "average") else weights
    moved, total = splat(values, torch.zeros_like(flow), given_weights, mode=mode)
    torch.testing.assert_close(moved, values)
    assert (total > 0).all()


@LAWS
@given(SEEDS, st.integers(-12, 12), st.integers(-10, 10), st.booleans())
def test_whole_flows_move_pixels_exactly(seed: int, dx: int, dy: int, deterministic: bool) -> None:
    values, flow, _ = _case(seed)
    flow[:, 0], flow[:, 1] = dx, dy
    moved, total = splat(values, flow, mode="average", deterministic=deterministic)
    h, w = values.shape[-2:]
    expected, hit = torch.zeros_like(values), torch.zeros_like(total)
    for y in range(h):
        for x in range(w):
            if 0 <= y + dy < h and 0 <= x + dx < w:
                expected[..., y + dy, x + dx], hit[..., y + dy, x + dx] = values[..., y, x], 1.0
    if deterministic:
        torch.testing.assert_close(moved, expected)
    else:
        assert torch.equal(moved, expected)
    torch.testing.assert_close(total, hit)


@LAWS
@given(SEEDS)
def test_mass_is_conserved_while_nothing_leaves_the_picture(seed: int) -> None:
    values, _, weights = _case(seed)
    moved, total = splat_sum(values, _staying(seed, 2, 9, 11), weights)
    torch.testing.assert_close(moved.sum((2, 3)), (values * weights).sum((2, 3)), rtol=0, atol=1e-4)
    torch.testing.assert_close(total.sum((2, 3)), weights.sum((2, 3)), rtol=0, atol=1e-4)


@LAWS
@given(SEEDS)
def test_it_is_the_transpose_of_the_look_up(seed: int) -> None:
    """<splat(v), u> = <v, warp(u)> where no look-up leaves the picture."""
    values, _, _ = _case(seed)
    other, flow = torch.randn(2, 3, 9, 11), _staying(seed, 2, 9, 11)
    moved, _ = splat_sum(values.double(), flow.double(), _ones(values))
    seen = backward_warp(other.double(), flow.double())
    torch.testing.assert_close((moved * other).sum(), (values * seen).sum(), rtol=0, atol=2e-4)


def test_softmax_has_no_scale_and_no_overflow() -> None:
    values, flow, weights = _case(1)
    near, total = splat(values, flow, 9.0 * weights)
    far, same = splat(values, flow, 9.0 * weights + 1000.0)
    torch.testing.assert_close(near, far, rtol=0, atol=2e-3)
    torch.testing.assert_close(total, same, rtol=0, atol=2e-3)
    ignored = weights.clone()
    ignored[0] = -torch.inf
    moved, total = splat(values, flow, ignored)
    assert not moved[0].any()
    assert not total[0].any()
    torch.testing.assert_close(moved[1], splat(values, flow, weights)[0][1])


def test_the_larger_softmax_weight_covers() -> None:
    values = torch.tensor([1.0, 2.0]).view(1, 1, 1, 2)
    flow = torch.tensor([[1.0, 0.0], [0.0, 0.0]]).view(1, 2, 1, 2)
    moved, total = splat(values, flow, torch.tensor([30.0, 0.0]).view(1, 1, 1, 2))
    torch.testing.assert_close(moved.flatten(), torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(total.flatten(), torch.tensor([0.0, 1.0]))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf, 1e30])
def test_a_pixel_without_a_place_is_lost(bad: float) -> None:
    values, flow, weights = _case(2)
    lost = weights.clone()
    lost[..., 4, 5] = 0.0
    expected = splat_sum(values, flow, lost)
    flow[..., 4, 5] = bad
    torch.testing.assert_close(splat_sum(values, flow, weights), expected)


@LAWS
@given(SEEDS, st.sampled_from([1e-20, 1.0, 1e20]))
def test_the_deterministic_form_agrees_and_has_no_order(seed: int, size: float) -> None:
    values, flow, weights = _case(seed)
    values = size * values
    moved, total = splat_sum(values, flow, weights, deterministic=True)
    plain, plain_total = splat_sum(values, flow, weights)
    torch.testing.assert_close(moved / size, plain / size, rtol=0, atol=1e-5)
    torch.testing.assert_close(total, plain_total, rtol=0, atol=1e-5)
    # The same pixels in another order: those of each image shuffled, with flows to match.
    h, w = values.shape[-2:]
    order = torch.randperm(h * w)
    ys, xs = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    place = torch.stack((xs, ys)).float()
    flow = (4 * flow).round() / 4  # so that moving the start of a flow rounds nothing
    goal = (place + flow).flatten(2)[:, :, order].view_as(flow)
    shuffled = [x.flatten(2)[:, :, order].view_as(x) for x in (values, weights)]
    got = splat_sum(shuffled[0], goal - place, shuffled[1], deterministic=True)
    expected = splat_sum(values, flow, weights, deterministic=True)
    assert torch.equal(got[0], expected[0])
    assert torch.equal(got[1], expected[1])
    # And the images of a batch in another order, or alone.
    got = splat_sum(values.flip(0), flow.flip(0), weights.flip(0), deterministic=True)
    assert torch.equal(got[0].flip(0), expected[0])
    assert torch.equal(splat_sum(values[:1], flow[:1], weights[:1], deterministic=True)[0], expected[0][:1])


def test_the_deterministic_form_cannot_overflow() -> None:
    """All pixels of an image meet in one."""
    h = w = 64
    ys, xs = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    flow = (7.0 - torch.stack((xs, ys)).float())[None]
    values = torch.full((1, 1, h, w), 255.9999)
    moved, total = splat_sum(values, flow, _ones(values), deterministic=True)
    assert total[0, 0, 7, 7] == h * w
    torch.testing.assert_close(moved[0, 0, 7, 7], values.sum(), rtol=1e-6, atol=0)


def test_what_is_not_finite_stays_visible_in_the_deterministic_form() -> None:
    values, flow, weights = _case(3)
    values[0, 0, 0, 0] = torch.inf
    moved, total = splat_sum(values, flow, weights, deterministic=True)
    assert not moved[0, 0].isfinite().any()
    assert moved[0, 1:].isfinite().all()
    assert total.isfinite().all()


def test_its_gradients_are_those_of_the_definition() -> None:
    values, flow, weights = (x.double().requires_grad_() for x in _case(4, 1, 2, 4, 5, reach=1.5))
    assert torch.autograd.gradcheck(splat_sum, (values, flow, weights))
    for mode in ("linear", "softmax"):
        assert torch.autograd.gradcheck(lambda v, f, w, mode=mode: splat(v, f, w, mode=mode), (values, flow, weights))


def test_both_forms_have_the_same_gradients() -> None:
    args = [x.requires_grad_() for x in _case(5)]
    cotangents = (torch.randn(2, 3, 9, 11), torch.randn(2, 1, 9, 11))
    grads = [torch.autograd.grad(splat_sum(*args, deterministic=form), args, cotangents) for form in (False, True)]
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("deterministic", [False, True])
def test_the_operator_keeps_torchs_rules(dtype: torch.dtype, deterministic: bool) -> None:
    values, flow, weights = _case(6)
    values = values.to(dtype).requires_grad_()
    args = (values, flow.requires_grad_(), weights.requires_grad_())
    torch.library.opcheck(torch.ops.rdvfi.splat_sum.default, (*args, deterministic))
    moved, total = splat(*args, mode="linear", deterministic=deterministic)
    assert moved.dtype == dtype
    assert total.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_strided_and_empty_arguments() -> None:
    values, flow, weights = _case(7)
    expected = splat_sum(values, flow, weights)
    wide = values.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    torch.testing.assert_close(splat_sum(wide, flow.mT.contiguous().mT, weights), expected)
    shared = flow[:1].expand_as(flow)
    torch.testing.assert_close(splat_sum(values, shared, weights), splat_sum(values, shared.contiguous(), weights))
    for form in (False, True):
        moved, total = splat(values[:0], flow[:0], weights[:0], deterministic=form)
        assert moved.shape == (0, 3, 9, 11)
        assert total.shape == (0, 1, 9, 11)


def test_it_compiles_whole() -> None:
    args = _case(8)
    compiled = torch.compile(splat, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*args), splat(*args))


def test_wrong_modes_and_weights_are_named() -> None:
    values, flow, weights = _case(9)
    with pytest.raises(ValueError, match="named 'max'"):
        splat(values, flow, weights, mode="max")
    with pytest.raises(ValueError, match="'softmax' needs weights"):
        splat(values, flow)
    with pytest.raises(ValueError, match="'average' takes no weights"):
        splat(values, flow, weights, mode="average")

"""The rules for content: what they find, and that they change nothing where it is not there."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import rdvfi
from rdvfi.content import Content, find_bars
from rdvfi.content.cpu_shortcuts import fixed_shapes
from rdvfi.content.illumination import IlluminationChange, find_illumination_change
from rdvfi.content.overlay import Overlay, find_overlay
from rdvfi.content.partial_cuts import explained_change
from rdvfi.content.static_regions import static_mask
from rdvfi.data.synthetic.generated_images import discs_and_boxes
from rdvfi.graph_watch import Watch
from rdvfi.ops.compositing import restore_overlay_and_bars
from rdvfi.render.base import WarpInputs

sys.path.insert(0, str(Path(__file__).parents[1] / "research"))
from content_cases import content_case

SIZE = (128, 224)


@pytest.fixture(scope="module")
def model() -> rdvfi.Interpolator:
    return rdvfi.create_model("rdvfi-s")


def _frames(name: str, *, count: int = 3, size: tuple[int, int] = SIZE) -> torch.Tensor:
    """(n, 1, 3, H, W) in [0, 1]."""
    frames = content_case(name, count=count, size=size).frames
    return torch.from_numpy(frames).permute(0, 3, 1, 2)[:, None].float() / 255.0


def _texture(h: int = 96, w: int = 160, seed: int = 0) -> torch.Tensor:
    rough = torch.rand(1, 3, h // 4, w // 4, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(rough, (h, w), mode="bicubic").clamp(0.05, 0.95)


# Bars.


def _add_bars(image: torch.Tensor, top: int, bottom: int, left: int, right: int, colour: float = 0.0) -> torch.Tensor:
    h, w = image.shape[-2:]
    out = torch.full_like(image, colour)
    out[..., top : h - bottom, left : w - right] = image[..., top : h - bottom, left : w - right]
    return out


@pytest.mark.parametrize("bars", [(12, 12, 0, 0), (0, 0, 20, 20), (8, 10, 14, 16), (0, 9, 0, 0), (1, 0, 0, 0)])
@pytest.mark.parametrize("noise", [0.0, 0.8 / 255])
def test_bars_are_counted_on_every_side(bars: tuple[int, int, int, int], noise: float) -> None:
    h, w = 96, 160
    draw = torch.Generator().manual_seed(1)
    pair = [_add_bars(_texture(seed=s), *bars, 16 / 255) for s in (0, 1)]
    pair = [x + noise * torch.randn(x.shape, generator=draw) for x in pair]
    found = find_bars(*pair)
    assert found.rows.tolist() == [[bars[0], h - bars[1]]]
    assert found.columns.tolist() == [[bars[2], w - bars[3]]]


def test_subtitles_inside_a_bar_belong_to_it() -> None:
    pair = [_add_bars(_texture(seed=s), 0, 24, 0, 0) for s in (0, 1)]
    for x in pair:
        x[..., 78:86, 40:110] = 1.0
    assert find_bars(*pair).rows.tolist() == [[0, 72]]


def test_a_picture_without_bars_has_none() -> None:
    pair = []
    for x in (70, 76):
        sky = _texture()
        sky[..., :30, :] = 0.7
        sky[..., 26:30, x : x + 20] = 0.2  # somebody's head: the edge of this sky is not straight
        pair.append(sky)
    for found in (find_bars(_texture(seed=0), _texture(seed=1)), find_bars(*pair)):
        assert not bool(found.any())
        x = _texture()
        assert torch.equal(found.fill(x), x)


def test_bars_of_different_samples_are_found_by_themselves() -> None:
    plain, barred = ([f(_texture(seed=s)) for s in (0, 1)] for f in (lambda x: x, lambda x: _add_bars(x, 10, 10, 0, 0)))
    found = find_bars(torch.cat((plain[0], barred[0])), torch.cat((plain[1], barred[1])))
    assert found.rows.tolist() == [[0, 96], [10, 86]]


@pytest.mark.parametrize("renderer", ["synthesis", "warp", "blend"])
def test_new_frames_have_the_bars_of_the_input_bit_for_bit(renderer: str, model) -> None:
    frames = _frames("letterbox")
    used = model if renderer == "synthesis" else _with_renderer(model, renderer)
    made = used(frames[0], frames[2], timesteps=[0.25, 0.5])
    bar = SIZE[0] // 8
    assert torch.equal(made[:, :, :, :bar], frames[0][:, None, :, :bar].expand(-1, 2, -1, -1, -1))
    assert torch.equal(made[:, :, :, -bar:], frames[0][:, None, :, -bar:].expand(-1, 2, -1, -1, -1))


def test_in_a_stream_bars_that_come_are_not_in_what_is_known_of_the_frame(model) -> None:
    """Also where, as on a GPU, nothing is left out."""
    one, two, three = (_texture(seed=s) for s in range(3))
    with fixed_shapes():
        before = model.estimate(one, two)
        later = [_add_bars(image, 16, 16, 0, 0) for image in (two, three)]
        alone, in_stream = model.estimate(*later), model.estimate(*later, after=before)
    assert not before.content.bars.any()
    assert torch.equal(alone.keyframes.latents, in_stream.keyframes.latents)


def test_nothing_of_the_bars_is_in_the_picture(model) -> None:
    """A pair with bars is interpolated as the pair that was cut out of it."""
    frames = _frames("letterbox")
    bar = SIZE[0] // 8
    inside = frames[0][..., bar:-bar, :], frames[2][..., bar:-bar, :]
    made = model(frames[0], frames[2], timesteps=[0.5])[0, 0, :, bar:-bar]
    cut = model(*inside, timesteps=[0.5])[0, 0]
    assert _psnr(made, cut) > 36.0


# Overlays.


def test_an_overlay_is_found_before_what_moves_as_one() -> None:
    case = content_case("subtitles", count=3)
    frames = torch.from_numpy(case.frames).permute(0, 3, 1, 2)[:, None].float() / 255.0
    flow = _shift_between(frames[0], frames[2])
    mask, _ = find_overlay(frames[0], frames[2], flow, -flow)
    static = torch.from_numpy(case.static)
    assert float(mask[0, 0][static].mean()) > 0.9
    assert float(mask[0, 0, :150].mean()) == 0.0  # and nowhere else


def test_what_passes_before_a_still_ground_is_no_overlay() -> None:
    frames = _frames("walkers", size=(256, 448))
    flow = torch.zeros(1, 2, 256, 448)
    mask, _ = find_overlay(frames[0], frames[2], flow, flow)
    assert not bool(mask.any())


def test_an_overlay_comes_back_bit_for_bit_where_both_frames_are_equal(model) -> None:
    case = content_case("subtitles", count=3)
    frames = torch.from_numpy(case.frames).permute(0, 3, 1, 2)[:, None].float() / 255.0
    motion = model.estimate(frames[0], frames[2])
    overlay = motion.content.overlay
    same = (overlay.mask > 0) & (frames[0] == frames[2]).all(1, keepdim=True)
    assert int(same.sum()) > 500
    made = model.render(frames[0], frames[2], motion, [0.3])[:, 0]
    assert torch.equal(made[same.expand_as(made)], frames[0][same.expand_as(made)])


def test_half_transparent_marks_are_lifted_off_and_laid_back() -> None:
    """With the true plates the opacity follows from the frames, and the frame between is exact."""
    backs = [_texture(seed=s) for s in (0, 1, 2)]
    alpha = torch.zeros(1, 1, 96, 160)
    alpha[..., 40:56, 60:100] = 0.5
    marked = [0.5 * alpha + (1 - alpha) * back for back in backs]
    mask = torch.zeros(1, 1, 96, 160)
    mask[..., 42:54, 62:98] = 1.0
    overlay = Overlay(mask, torch.stack((backs[0], backs[2]), dim=1))
    lifted = overlay.remove_from(marked[0], marked[2])
    assert torch.allclose(lifted[2][..., 44:52, 64:96], torch.full((8, 32), 0.5), atol=0.02)
    made = restore_overlay_and_bars(backs[1][:, None], marked[0], marked[2], torch.tensor([0.5]), lifted, [])
    assert _psnr(made[0, 0], marked[1][0]) > 38.0


# Illumination changes.


@pytest.mark.parametrize("gain", [0.6, 1.0, 1.5])
def test_a_gain_is_found_as_it_is(gain: float) -> None:
    still = 0.6 * _texture()
    light = find_illumination_change(still, gain * still, torch.ones(1, 1, 96, 160))
    assert torch.allclose(light.gain.exp(), torch.full_like(light.gain, gain), atol=0.03)
    assert bool(light.any()) == (gain != 1.0)


def test_a_uniform_illumination_change_is_interpolated(model) -> None:
    still = _texture(128, 192)
    made = model(0.5 * still, 0.9 * still, timesteps=[0.25, 0.5])
    for i, light in enumerate((0.6, 0.7)):
        assert _psnr(made[0, i], light * still[0]) > 42.0


def test_illumination_is_interpolated_whatever_the_mask(model) -> None:
    still = _texture(64, 96)
    change = IlluminationChange(torch.full((1, 1, 64, 96), float(np.log(1.8))))
    zeros = torch.zeros(1, 1, 2, 64, 96)
    inputs = WarpInputs(zeros, zeros, torch.rand(1, 1, 1, 64, 96), torch.zeros(1, 1, 3, 64, 96))
    motion = replace(model.estimate(still, still), content=Content(find_bars(still, still), illumination=change))
    times = torch.tensor([0.5])
    made = inputs.adapt(0.5 * still, 0.9 * still, motion, times).draw(0.5 * still, 0.9 * still)
    assert torch.allclose(made[0, 0], 0.7 * still[0], atol=2 / 255)


# Static regions.


def test_static_background_equals_the_inputs_where_nothing_passes(model) -> None:
    frames = _frames("walkers", size=(256, 448))
    made = model(frames[0], frames[2], timesteps=[0.5])[0, 0]
    upper = made[:, :100], frames[0][0, :, :100]  # the people walk below
    assert torch.equal(frames[0][..., :100, :], frames[2][..., :100, :])
    assert torch.equal(*upper)


def test_slow_motion_is_not_taken_for_a_static_region() -> None:
    still = torch.nn.functional.avg_pool2d(_texture(100, 164), 2)
    first, last = still[..., 1:41, 1:73], still[..., 1:41, 2:74]
    flow = torch.zeros(1, 1, 2, 40, 72)
    flow[:, :, 0] = 0.5
    slow = 0.9 * flow  # to the first frame, and to the last
    assert float(static_mask(first, last, slow, -slow).mean()) < 0.05
    assert float(static_mask(first, first, slow, -slow).mean()) == 1.0


# Cuts.


@pytest.mark.parametrize("still", [0.5, 0.7])
def test_a_cut_beside_something_still_is_one(still: float, model) -> None:
    first, last = (
        torch.from_numpy(discs_and_boxes(np.random.default_rng(seed), 128, 192)).permute(2, 0, 1)[None]
        for seed in (0, 9)
    )
    width = int(192 * still)
    last[..., :width] = first[..., :width]
    assert float(model.estimate(first, last).scene.weight) == 0.0


@pytest.mark.parametrize("name", ["walkers", "ordinary_pan", "ticker", "snow", "exposure", "fade", "noisy_walkers"])
def test_pairs_of_one_scene_stay_so(name: str, model) -> None:
    frames = _frames(name, count=9)
    for last in (2, 8):
        assert float(model.estimate(frames[0], frames[last]).scene.weight) == 1.0


def test_noise_is_no_cut() -> None:
    draw = torch.Generator().manual_seed(0)
    noisy = [_texture() + 0.1 * torch.randn(1, 3, 96, 160, generator=draw) for _ in range(2)]
    trust = torch.full((1, 1, 96, 160), 0.97)
    assert (
        float(
            explained_change(
                (noisy[0], noisy[1]), (noisy[0], noisy[1]), IlluminationChange(torch.zeros_like(trust)), trust
            )
        )
        == 1.0
    )


# All of them.


def test_without_any_of_it_nothing_changes(model) -> None:
    first, last = (x for x in _frames("ordinary_pan")[::2])
    motion = model.estimate(first, last)
    content = motion.content
    assert (content.overlay, content.illumination) == (None, None)
    assert not bool(content.bars.any())
    plain = model.render(first, last, replace(motion, content=None), [0.5])
    assert torch.equal(model.render(first, last, motion, [0.5]), plain)


def test_rules_can_be_turned_off(model) -> None:
    frames = _frames("letterbox")
    model.content_rules = False
    try:
        assert model.estimate(frames[0], frames[2]).content is None
    finally:
        model.content_rules = True


def test_samples_of_a_batch_do_not_change_each_other(model) -> None:
    pairs = [_frames(name)[::2] for name in ("letterbox", "exposure", "ordinary_pan", "subtitles")]
    first, last = (torch.cat([pair[i] for pair in pairs]) for i in (0, 1))
    together = model(first, last, timesteps=[0.5])
    for i, pair in enumerate(pairs):
        alone = model(pair[0], pair[1], timesteps=[0.5])
        assert float((together[i] - alone[0]).abs().max()) < 1 / 255


def test_fixed_shapes_give_what_leaving_out_gives(model, monkeypatch) -> None:
    """On a CPU what is not there is left out; a graph does all the work, with the same result."""
    for name in ("ordinary_pan", "letterbox", "subtitles"):
        frames = _frames(name)
        short = model(frames[0], frames[2], timesteps=[0.25, 0.5])
        with Watch("cpu"):  # operations are looked at, so no truth value may be asked for
            whole = model(frames[0], frames[2], timesteps=[0.25, 0.5])
        assert float((short - whole).abs().max()) <= 1 / 255


def _with_renderer(model: rdvfi.Interpolator, name: str) -> rdvfi.Interpolator:
    return rdvfi.Interpolator(model.generator, model.trajectory, rdvfi.renderers.create(name))


def _shift_between(first: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
    """The pan between two frames, by the shift that fits best above the text."""
    upper = first[..., 20:150, 40:-40]
    shifts = [(x, y) for x in range(-14, 15) for y in range(-3, 4)]
    errors = [
        float((upper - last[..., 20 + y : 150 + y, 40 + x : last.shape[-1] - 40 + x]).abs().mean()) for x, y in shifts
    ]
    x, y = shifts[int(np.argmin(errors))]
    return torch.tensor([x, y], dtype=torch.float32)[None, :, None, None].expand(1, 2, *first.shape[-2:])


def _psnr(made: torch.Tensor, truth: torch.Tensor) -> float:
    return float(-10.0 * (made - truth).square().mean().log10())

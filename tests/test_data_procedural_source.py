"""Procedural motion: layers are drawn where their paths say, and flows are exact."""

import math

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float
from skimage import data
from torch import Tensor

from layered_scene import background_layer, render_frame, single_scene
from rdvfi.data.sources import Batch, BatchSource
from rdvfi.data.synthetic.layer_motion import LayerMotion, similarities_at
from rdvfi.data.synthetic.layered_scenes import Illumination, LayerBatch, SceneBatch
from rdvfi.data.synthetic.object_paths import NO_WAVE, STATIC, LayerPath, Wave, background_path, turning_path
from rdvfi.data.synthetic.procedural_source import KNOTS, MovingTextures
from rdvfi.data.synthetic.sampler import SceneRecipe, SceneSampler
from rdvfi.data.synthetic.textures import Crop, Matte, PicturePyramid, draw_mattes, same_size
from rdvfi.ops import backward_warp

PICTURES = [data.astronaut(), data.coffee(), data.chelsea()]
TEXTURES = torch.from_numpy(same_size(PICTURES, (200, 320)))
SIZE = (64, 96)
PLAIN = SceneRecipe(reach=30.0, lights=0.0, blurred=0.0)


def _source(recipe: SceneRecipe = PLAIN, stride: int = 1, exposures: int = 1) -> MovingTextures:
    return MovingTextures(TEXTURES, SIZE, free=2, stride=stride, recipe=recipe, exposures=exposures)


@pytest.fixture(scope="module")
def batch() -> Batch:
    return _source().samples(range(6), 3)


@pytest.mark.parametrize("time", [0.0, 0.3, 1.0])
def test_a_background_matches_opencv_warp_affine(time: float) -> None:
    """An independent reference: one affine warp of a smooth picture, in float."""
    picture = cv2.GaussianBlur(data.astronaut(), (0, 0), 2.0)
    path = LayerPath((40.0, 30.0), 0.7, 1.3, (6.0, -4.0), (9.0, 5.0), 0.4)
    drawn = render_frame(single_scene(SIZE, background_layer(picture, path, (-150.0, -120.0))), time)
    corner = np.array([[1.0, 0.0, -150.0], [0.0, 1.0, -120.0], [0.0, 0.0, 1.0]])
    matrix = (path.at(time) @ corner)[:2]
    expected = cv2.warpAffine(picture.astype(np.float32), matrix, SIZE[::-1], flags=cv2.INTER_LINEAR)
    difference = np.abs(255.0 * drawn[0].permute(1, 2, 0).numpy() - expected)
    assert difference.max() < 1.0  # OpenCV's weights have five bits


def test_an_end_warped_along_the_flow_is_the_frame_where_it_is_visible(batch: Batch) -> None:
    frames, flows, visible = batch["frames"], batch["flows"], batch["visible"]
    for t in (2, 5, KNOTS, KNOTS + 1):
        for n, end in ((0, 0), (1, KNOTS - 1)):
            warped = backward_warp(frames[:, end], flows[:, t, n])
            error = (warped - frames[:, t]).abs().mean(1)
            seen = visible[:, t, n] > 0
            assert seen.float().mean() > 0.5
            assert error[seen].median() < 0.004
            # Edges of mattes are soft, so the pixels on them mix two layers.
            assert (error[seen] < 0.05).float().mean() > 0.95
            still = (frames[:, end] - frames[:, t]).abs().mean()
            assert error[seen].mean() < 0.25 * still


def test_flow_to_the_next_knot_and_back_cancels(batch: Batch) -> None:
    """Flow from a knot to the next, then that one's flow to the knot before it."""
    flows, visible = batch["flows"], batch["visible"]
    for i in range(KNOTS - 1):
        there, back = flows[:, i, 3], flows[:, i + 1, 2]
        rest = (there + backward_warp(back, there)).norm(dim=1)[visible[:, i, 3] > 0]
        assert rest.median() < 0.01
        assert (rest < 0.1).float().mean() > 0.9  # but for the edges, where flows are mixed


def test_flow_to_the_same_time_is_zero_and_visible(batch: Batch) -> None:
    flows, visible = batch["flows"], batch["visible"]
    for t, n in ((0, 0), (0, 2), (KNOTS - 1, 1), (KNOTS - 1, 3)):
        assert not flows[:, t, n].any()
        assert (visible[:, t, n] == 1).all()
    torch.testing.assert_close(flows[:, 1, 0], flows[:, 1, 2])  # the knot before is the first


def _grid() -> Float[Tensor, "1 1 2 h w"]:
    y, x = torch.meshgrid(torch.arange(12.0) * 8, torch.arange(20.0) * 8, indexing="ij")
    return torch.stack((x, y))[None, None]


angles, lengths = st.floats(-1.6, 1.6), st.floats(-60.0, 60.0)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), determined=st.booleans(), t=st.floats(0.0, 1.0))
def test_positions_at_and_start_positions_are_inverse(seed: int, determined: bool, t: float) -> None:
    sampler = SceneSampler(np.random.default_rng(seed), SIZE, 3, SceneRecipe(reach=60.0, waves=1.0))
    limb = sampler.sample_limb(determined)[1]
    motion = LayerMotion.of(
        [sampler.sample_path(60.0, determined), limb.path],
        [STATIC, limb.joint],
        [sampler.sample_wave(80.0, determined, 1.0), sampler.sample_wave(40.0, determined, 1.0)],
    )
    times, points = torch.tensor([[t], [t]]), _grid().expand(2, 1, -1, -1, -1)
    there = motion.positions_at(points, times)
    torch.testing.assert_close(motion.start_positions(there, times), points, rtol=0, atol=2e-3)
    start = motion.positions_at(points, torch.zeros(2, 1))
    torch.testing.assert_close(start, points, rtol=0, atol=1e-3)


@settings(max_examples=30, deadline=None)
@given(
    pivot=st.tuples(lengths, lengths),
    angle=angles,
    zoom=st.floats(0.5, 2.0),
    shift=st.tuples(lengths, lengths),
    bow=st.tuples(lengths, lengths),
    acceleration=st.floats(-0.6, 0.6),
)
def test_batched_similarities_match_layer_paths(
    pivot: tuple[float, float],
    angle: float,
    zoom: float,
    shift: tuple[float, float],
    bow: tuple[float, float],
    acceleration: float,
) -> None:
    path = LayerPath(pivot, angle, zoom, shift, bow, acceleration)
    times = torch.tensor([[0.0, 0.37, 1.0]])
    wanted = np.stack([path.at(float(t))[:2] for t in times[0].double()])
    a, b, x, y = similarities_at(torch.tensor([path.parameters()], dtype=torch.float64), times)[0].unbind(-1)
    made = torch.stack((a, -b, x, b, a, y), -1).view(-1, 2, 3)
    np.testing.assert_allclose(made.numpy(), wanted, atol=1e-9)
    there = path.position_at((3.0, -8.0), 0.37)
    assert path.start_position(there, 0.37) == pytest.approx((3.0, -8.0), abs=1e-6)


def test_paths_start_at_the_identity_and_determined_ones_are_powers() -> None:
    path = LayerPath((30.0, 20.0), 0.8, 1.4, (5.0, -7.0), (3.0, 4.0), 0.3)
    np.testing.assert_allclose(path.at(0.0), np.eye(3), atol=1e-12)
    bowless = LayerPath((30.0, 20.0), 0.8, 1.4)
    np.testing.assert_allclose(bowless.at(0.5) @ bowless.at(0.5), bowless.at(1.0), atol=1e-9)
    straight = LayerPath((30.0, 20.0), 0.8, 1.4, (5.0, -7.0), acceleration=0.3)
    np.testing.assert_allclose(path.at(1.0), straight.at(1.0), atol=1e-12)  # a bow keeps both ends
    gentle = background_path(np.random.default_rng(0), SIZE)
    assert np.hypot(*np.subtract(gentle.position_at((48.0, 32.0), 1.0), (48.0, 32.0))) < 0.15 * SIZE[1]


@pytest.mark.parametrize("angle", [0.5, -1.5])
def test_a_turning_path_moves_its_centre_as_far_as_asked(angle: float) -> None:
    path = turning_path((50.0, 40.0), angle, 120.0, 0.7)
    assert math.dist(path.position_at((50.0, 40.0), 1.0), (50.0, 40.0)) == pytest.approx(120.0)


def test_a_forearm_stays_on_its_elbow_and_keeps_its_length() -> None:
    sampler = SceneSampler(np.random.default_rng(5), SIZE, 3, SceneRecipe(reach=60.0))
    arm, forearm = sampler.sample_limb(True)
    elbow, hand = forearm.path.pivot, (2 * forearm.centre[0] - forearm.path.pivot[0], 70.0)
    points = torch.tensor([elbow, hand]).T[None, None, :, None].float()
    length = math.dist(elbow, hand)
    times = torch.linspace(0, 1, 5)[None]
    carried = LayerMotion.of([arm.path], [STATIC], [NO_WAVE]).positions_at(points.expand(1, 5, -1, -1, -1), times)
    turned = LayerMotion.of([forearm.path], [forearm.joint], [NO_WAVE]).positions_at(
        points.expand(1, 5, -1, -1, -1), times
    )
    torch.testing.assert_close(turned[..., 0], carried[..., 0], rtol=0, atol=1e-3)
    reach = (turned[..., 1] - turned[..., 0]).norm(dim=2)
    torch.testing.assert_close(reach, torch.full_like(reach, length), rtol=0, atol=1e-2)
    assert (turned[0, -1, :, 0, 1] - carried[0, -1, :, 0, 1]).norm() > 5.0


def test_a_wave_that_would_fold_is_refused() -> None:
    wave = Wave(((8.0, 0.0, 0.1, 0.0, 0.0),), linear=1.0)
    with pytest.raises(ValueError, match=r"steepness is 0\.880; at most 0\.25"):
        LayerMotion.of([STATIC], [STATIC], [wave])


def test_an_open_shutter_blurs_along_the_motion_and_light_changes_frames() -> None:
    """A bright dot that moves across: its brightness is spread over its way, and kept."""
    texture = torch.zeros(1, 4, 33, 217)  # so wide that its mirrored sides stay out of view
    texture[:, :3, 16, 80:82] = 1.0
    motion = LayerMotion.of([LayerPath(shift=(40.0, 0.0))], [STATIC], [NO_WAVE])
    layer = LayerBatch(torch.tensor([0]), texture, torch.tensor([[-60.0, 0.0]]), motion)
    sharp = SceneBatch([layer], (33, 97))
    open_ = SceneBatch([layer], (33, 97), shutter=torch.tensor([0.2]))
    times = torch.tensor([[0.5]])
    still, moved = (scenes.frames(times, exposures=5)[0][0, 0, 0] for scenes in (sharp, open_))
    torch.testing.assert_close(moved.sum(), still.sum())
    assert (still.sum(0) > 0.01).sum() == 2
    assert 7 <= (moved.sum(0) > 0.01).sum() <= 10  # 40 px at a fifth, less half a step each side
    centre = (moved.sum(0) * torch.arange(97)).sum() / moved.sum()
    assert float(centre) == pytest.approx(40.5, abs=1e-3)
    light = Illumination(torch.tensor([[0.5, 0.0, 0.0]]), torch.zeros(1))
    grey = torch.full((1, 4, 33, 97), 0.4)
    lit = SceneBatch([LayerBatch(torch.tensor([0]), grey, torch.zeros(1, 2), motion)], (33, 97), light)
    levels = lit.frames(torch.tensor([[0.0, 0.5, 1.0]]))[0].mean((0, 2, 3, 4))
    expected = 0.4 * torch.tensor([-0.25, 0.0, 0.25]).exp()
    torch.testing.assert_close(levels, expected, rtol=1e-5, atol=0)


def test_samples_depend_on_their_number_alone() -> None:
    source = _source(SceneRecipe(reach=30.0), stride=8, exposures=3)
    assert isinstance(source, BatchSource)
    first = next(source.batches(2, 7, start=2))  # samples 4 and 5
    alone = source.samples([5], 7)
    for name, value in alone.items():
        torch.testing.assert_close(first[name][1:], value, rtol=0, atol=1e-5)
    assert first["frames"].shape == (2, KNOTS + 2, 3, *SIZE)
    assert first["flows"].shape == (2, KNOTS + 2, 4, 2, 8, 12)
    assert first["visible"].shape == (2, KNOTS + 2, 4, 8, 12)
    assert not torch.equal(first["frames"][0], first["frames"][1])
    assert not torch.equal(source.samples([5], 8)["frames"], alone["frames"])
    assert 0.02 <= alone["times"][0, KNOTS:].min() <= alone["times"][0, KNOTS:].max() <= 0.98


def test_strides_read_the_centres_of_cells() -> None:
    whole = SceneRecipe(reach=30.0, limbs=0.0, waves=0.0)
    fine = _source(whole).samples(range(8), 1)
    coarse = _source(whole, stride=8).samples(range(8), 1)
    cells = fine["flows"].unflatten(-1, (12, 8)).unflatten(-3, (8, 8)).mean((-1, -3))
    error = (cells - coarse["flows"]).norm(dim=3)
    assert error.median() < 1e-3  # cells across an edge hold two motions


def test_pictures_are_cut_into_pieces_of_one_size() -> None:
    picture = np.arange(100 * 130 * 3, dtype=np.uint32).astype(np.uint8).reshape(100, 130, 3)
    pieces = same_size([picture, picture[:20]], (40, 60))
    assert pieces.shape == (5, 3, 40, 60)  # two by two, and one of the half; the strip is too low
    assert np.array_equal(pieces[0], picture[:40, :60].transpose(2, 0, 1))
    assert np.array_equal(pieces[3], picture[60:, 70:].transpose(2, 0, 1))
    with pytest.raises(ValueError, match="no picture holds a piece of 200x200"):
        same_size([picture], (200, 200))


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_crop_is_the_window_reduced_by_averaging(mirrored: bool) -> None:
    pictures = PicturePyramid(TEXTURES[:1])
    cut = Crop(0, 1.0, (0.5, 0.0), (mirrored, False), (1.0, 1.0, 1.0), 1.0)
    made = pictures.crop([cut], (50, 50))[0]  # the reduction is 4: rows 0..200, columns 60..260
    window = TEXTURES[0, :, :, 60:260].float() / 255.0
    wanted = torch.nn.functional.avg_pool2d(window, 4)
    wanted = wanted.flip(-1) if mirrored else wanted
    assert (made - wanted).abs().mean() < 0.015
    assert (made - wanted.flip(-1)).abs().mean() > 0.05


def test_mattes_have_the_area_of_their_shape_and_an_empty_border() -> None:
    blob, link = Matte(15.0, ((3.0, 0.2, 0.4),), limit=28.0), Matte(6.0, axis=(12.0, 9.0))
    mattes = draw_mattes([blob, link, Matte(80.0)], 61, torch.device("cpu"))
    areas = mattes.sum((1, 2, 3)).tolist()
    assert areas[0] == pytest.approx(math.pi * 15.0**2 * (1 + 0.2**2 / 2), rel=0.02)
    assert areas[1] == pytest.approx(math.pi * 36 + 2 * 15 * 12, rel=0.02)
    border = torch.cat((mattes[..., 0], mattes[..., -1], mattes[..., 0, :], mattes[..., -1, :]))
    assert not border.any()


def test_invalid_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"size is \(60, 96\)"):
        MovingTextures(TEXTURES, (60, 96), stride=8)
    with pytest.raises(ValueError, match=r"determined is 1\.5; a share lies in"):
        SceneRecipe(determined=1.5)
    with pytest.raises(ValueError, match="reach is 0"):
        SceneRecipe(reach=0.0)
    with pytest.raises(ValueError, match="no pictures"):
        PicturePyramid(TEXTURES[:0])
    with pytest.raises(ValueError, match="exposures is 2; it must be odd"):
        _source(exposures=2).samples([0], 0)

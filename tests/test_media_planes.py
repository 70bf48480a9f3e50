"""Colours converted as planes equal libswscale's, and planes are those of the frame."""

import av
import numpy as np
import pytest
import torch

from rdvfi.media.colour import Colour, Converter
from rdvfi.media.metadata.orientation import Orientation
from rdvfi.media.planes import PlaneFormat, Planes, PlaneTarget, conversion_parameters
from rdvfi.media.video_files.codecs import CODECS, encoder_formats
from rdvfi.media.video_files.siting import CENTER, LEFT, TOP, TOP_LEFT, UNKNOWN, SitingMarker

FORMATS = ("yuv420p", "nv12", "yuv422p", "yuv444p", "yuv420p10le", "p010le", "yuv422p12le", "yuv444p10le")
MATRICES = (1, 4, 5, 7, 9)
BORDER = 3
"""Rows and columns at a border: there libswscale leaves a weight of 0.028 away that reaches over it."""


def _rgb(height: int, width: int, *, deep: bool, seed: int) -> np.ndarray:
    most = 65535 if deep else 255
    return np.random.default_rng(seed).integers(0, most + 1, (height, width, 3)).astype("u2" if deep else "u1")


def _samples(frame: av.VideoFrame, target: PlaneTarget) -> torch.Tensor:
    """All planes of a frame, one after the other."""
    parts = Planes.from_frame(frame, Colour(), Orientation(), headroom=False, deep=False)
    assert parts is not None
    return torch.cat([plane.reshape(-1).to(torch.int32) for plane in parts.planes]) >> target.form.shift


def _inside(target: PlaneTarget) -> torch.Tensor:
    """Numbers that are not at a border of their plane."""
    rows, columns = target.form.subsampling
    sizes = [(target.height, target.width), (-(-target.height // rows), -(-target.width // columns))]
    masks = []
    for height, width in sizes:
        mask = torch.zeros(height, width, dtype=torch.bool)
        mask[BORDER:-BORDER, BORDER:-BORDER] = True
        masks.append(mask)
    small = masks[1]
    rest = [small[..., None].expand(-1, -1, 2)] if target.form.packed else [small, small]
    return torch.cat([mask.reshape(-1) for mask in (masks[0], *rest)])


@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize("name", FORMATS)
def test_both_conversions_equal_those_of_the_processor_within_one_level(name: str, number: int) -> None:
    """On noise, by every matrix, range and place of chroma, with and without video levels kept."""
    form = PlaneFormat.from_name(name)
    assert form is not None
    full, headroom, kind = bool(number & 1), number % 4 == 2, (number + FORMATS.index(name)) % 5
    colour = Colour(MATRICES[kind], 1, 1, full, (LEFT, CENTER, TOP_LEFT, TOP, UNKNOWN)[kind])
    deep, height, width = form.bits > 8, 36, 48
    converter = Converter(colour, deep=deep, headroom=headroom)
    pixels = _rgb(height, width, deep=deep, seed=number)
    made = converter.from_rgb(pixels, name)
    unit = 2.0 ** (form.bits - 8)
    meaning = conversion_parameters(colour, width, height, unit, headroom=headroom, deep=deep)
    target = PlaneTarget(name, form, height, width, meaning)
    image = torch.from_numpy(pixels.astype(np.float32) / np.iinfo(pixels.dtype).max).permute(2, 0, 1)
    samples = target.samples(image)
    apart = ((samples.to(torch.int32) >> form.shift) - _samples(made, target))[_inside(target)]
    assert apart.abs().max() <= (2 if form.bits == 12 else 1)
    assert deep or apart.float().mean().abs() < 0.05  # no step of brightness

    frame = target.frame(samples)
    assert torch.equal(_samples(frame, target), samples.to(torch.int32) >> form.shift)
    planes = Planes.from_frame(frame, colour, Orientation(), headroom=headroom, deep=deep)
    assert planes is not None
    back = planes.rgb(torch.float32)[0].permute(1, 2, 0).numpy()
    expected = converter.to_rgb(SitingMarker(colour.siting).mark(frame)).astype(np.float64) / np.iinfo(pixels.dtype).max
    apart = np.abs(back - expected)[BORDER:-BORDER, BORDER:-BORDER] * (2**form.bits - 1)
    assert apart.max() <= 1.0


@pytest.mark.parametrize("number", range(8))
def test_a_picture_is_turned_as_its_pixels_are(number: int) -> None:
    turn = Orientation(bool(number & 1), bool(number & 2), bool(number & 4))
    pixels = _rgb(20, 28, deep=False, seed=number)
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
    assert np.array_equal(turn.apply_to_tensor(image)[0].permute(1, 2, 0).numpy(), turn.apply(pixels))


def test_other_sizes_repeat_or_leave_out_the_border() -> None:
    form = PlaneFormat.from_name("yuv420p")
    assert form is not None
    image = torch.rand(3, 17, 21)
    meaning = conversion_parameters(Colour(1), 22, 18, 1.0, headroom=False, deep=False)
    padded = torch.nn.functional.pad(image[None], (0, 1, 0, 1), mode="replicate")[0]
    assert torch.equal(
        PlaneTarget("yuv420p", form, 18, 22, meaning).samples(image),
        PlaneTarget("yuv420p", form, 18, 22, meaning).samples(padded),
    )
    cut = PlaneTarget("yuv420p", form, 16, 20, meaning).samples(image)
    assert torch.equal(cut, PlaneTarget("yuv420p", form, 16, 20, meaning).samples(image[:, :16, :20]))


def test_formats_are_named_by_what_ffmpeg_says_of_them() -> None:
    names = {form.name for codec in CODECS.values() if "-" not in codec.encoder for form in _formats(codec.encoder)}
    assert {"yuv420p", "yuv420p10le", "yuv422p10le", "nv12", "p010le"} <= names
    for name in names:
        form, known = PlaneFormat.from_name(name), av.VideoFormat(name, 16, 16)
        if form is None:
            continue
        assert form.bits == known.components[0].bits
        assert form.subsampling == (16 // known.chroma_height(16), 16 // known.chroma_width(16))
        assert form.packed == (known.components[1].plane == known.components[2].plane)


def _formats(encoder: str):
    try:
        return encoder_formats(encoder)
    except ValueError:
        return ()


@pytest.mark.parametrize(("name", "size", "kept"), [("yuv420p", (32, 17), False), ("yuv444p", (31, 17), True)])
def test_odd_sizes_are_left_to_the_processor_where_chroma_does_not_cover_them(name, size, kept: bool) -> None:
    planes = Planes.from_frame(av.VideoFrame(*size, name), Colour(1), Orientation(), headroom=False, deep=False)
    assert (planes is not None) == kept


def test_frames_that_are_no_planes_of_luma_and_chroma_are_left_to_the_processor() -> None:
    for name in ("gray", "rgb24", "gbrp", "pal8", "yuva420p", "yuyv422"):
        frame = av.VideoFrame(32, 16, name)
        assert Planes.from_frame(frame, Colour(1), Orientation(), headroom=False, deep=False) is None

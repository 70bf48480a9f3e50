"""Small real video files for tests: a moving texture, with sound."""

from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import cv2
import numpy as np
import skimage.data
import skimage.transform

TICK = Fraction(1, 24000)


def texture(height: int, width: int, *, seed: int = 0) -> np.ndarray:
    """A smooth random picture in [0.1, 0.9], float64."""
    noise = np.random.default_rng(seed).random((height // 8 + 2, width // 8 + 2, 3))
    smooth = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return 0.1 + 0.8 * (smooth - smooth.min()) / (smooth.max() - smooth.min())


def moving(count: int, height: int, width: int, *, step: int = 3, seed: int = 0) -> list[np.ndarray]:
    """Pictures of a texture that moves ``step`` pixels to the left from one to the next."""
    wide = texture(height, width + count * step, seed=seed)
    return [wide[:, k * step : k * step + width] for k in range(count)]


def two_scenes(*, each: int) -> list[np.ndarray]:
    """Two photographs, each moving by 2 pixels a frame, 180x320, and a cut between."""
    return [small[:, 2 * k : 2 * k + 320] for small in _two_photographs() for k in range(each)]


@cache
def _two_photographs() -> list[np.ndarray]:
    photographs = (skimage.data.coffee(), skimage.data.rocket())
    return [skimage.transform.resize(each, (180, 330), anti_aliasing=True) for each in photographs]


def write_clip(
    path: Path,
    pictures: Sequence[np.ndarray],
    *,
    ticks: Sequence[int] | None = None,
    pixel_format: str = "yuv420p",
    sound: bool = True,
    colour: tuple[int, int, int, int] = (1, 1, 1, 1),
    rotation: int = 0,
    codec: str = "libx264",
) -> None:
    """Encode pictures in [0, 1], with x264 unless told otherwise, at 6 frames per second or at ``ticks`` of 1/24000 s.

    ``colour`` is matrix, primaries, transfer and range, in FFmpeg's numbers.
    """
    height, width = pictures[0].shape[:2]
    deep = "10" in pixel_format
    flags = {"movflags": "+faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=flags) as container:
        stream = container.add_stream(codec, rate=6, options={"crf": "4"} if codec == "libx264" else {})
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = width, height, pixel_format
        context.time_base = TICK
        context.colorspace, context.color_primaries, context.color_trc = colour[:3]
        context.color_range = colour[3]
        if rotation:
            stream.set_display_rotation(rotation)
        container.metadata["title"] = "A moving texture"
        audio = container.add_stream("aac", rate=44100, layout="mono") if sound else None
        for k, picture in enumerate(pictures):
            most, kind = (65535, np.uint16) if deep else (255, np.uint8)
            pixels = np.ascontiguousarray(np.round(picture * most).astype(kind))
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb48le" if deep else "rgb24")
            frame = frame.reformat(
                format=pixel_format,
                src_colorspace=colour[0],
                dst_colorspace=colour[0],
                src_color_range=2,
                dst_color_range=colour[3],
                interpolation="BICUBIC",
            )
            frame.pts = ticks[k] if ticks is not None else 4000 * k
            frame.time_base = TICK
            container.mux(stream.encode(frame))
        if audio is not None:
            _write_sound(container, audio, seconds=len(pictures) / 6)
        container.mux(stream.encode(None))


def level(number: int) -> int:
    """The grey that marks a frame of `write_numbered`."""
    return 20 + 3 * number


def write_numbered(path: Path, ticks: Sequence[int]) -> None:
    """One flat frame per tick of 1/24 s; key frames every 12, with frames sent out of order."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 24)
        stream.options = {"crf": "1", "g": "12", "bf": "2"}
        for number, tick in enumerate(ticks):
            picture = np.full((48, 64, 3), level(number), np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = tick, Fraction(1, 24)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def numbers(frames: Sequence[np.ndarray]) -> list[int]:
    """Which frames of `write_numbered` these are."""
    return [round((float(frame.mean()) - 20) / 3) for frame in frames]


def _write_sound(container: av.container.OutputContainer, audio, *, seconds: float) -> None:
    samples = round(44100 * seconds)
    wave = (0.3 * np.sin(2 * np.pi * 440 * np.arange(samples) / 44100)).astype(np.float32)
    for start in range(0, samples, 1024):
        part = wave[None, start : start + 1024]
        frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 44100, start, Fraction(1, 44100)
        container.mux(audio.encode(frame))
    container.mux(audio.encode(None))


def sound_packets(path: Path) -> list[tuple[Fraction, bytes]]:
    """Every sound packet of a file: its time and its bytes."""
    with av.open(str(path)) as container:
        packets = container.demux(container.streams.audio[0])
        return [(p.pts * p.time_base, bytes(p)) for p in packets if p.pts is not None]


def write_png(path: Path, picture: np.ndarray, *, deep: bool = False) -> None:
    """A picture in [0, 1] as a PNG with 8 or 16 bits a channel."""
    most, kind = (65535, np.uint16) if deep else (255, np.uint8)
    pixels = np.round(picture * most).astype(kind)
    assert cv2.imwrite(str(path), np.ascontiguousarray(pixels[..., ::-1]))


def read_png(path: Path) -> np.ndarray:
    """The RGB values of a PNG."""
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    return pixels[..., ::-1]

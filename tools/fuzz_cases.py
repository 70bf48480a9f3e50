"""The cases of `tools/fuzz.py`: valid files, mutations of them, and command lines."""

import json
import os
import random
import re
import shutil
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import PIL.Image
import torch

import rdvfi

PrepareCase = Callable[[Path], list[str]]
"""Writes the files of a case into a folder and returns the arguments of the command."""
Case = tuple[str, PrepareCase]

OVERRIDES = ["backbone=ends", "trajectory=straight", "coarse=dis", "renderer=blend", "motion_area=4096"]
RECIPE = ["--recipe", "rdvfi_s", "--allow-untrained"]
CHEAP = [*RECIPE, "-x", "2"]
VIDEOS = {
    "a.mp4": ("libx264", "yuv420p"),
    "b.mkv": ("libx265", "yuv420p10le"),
    "c.webm": ("libvpx-vp9", "yuva420p"),
    "d.avi": ("mpeg4", "yuv420p"),
    "e.gif": ("gif", "rgb8"),
    "f.mkv": ("ffv1", "bgr0"),
    "g.mov": ("prores_ks", "yuv422p10le"),
    "h.avi": ("mjpeg", "yuvj420p"),
    "i.ts": ("mpeg2video", "yuv420p"),
    "j.flv": ("libx264", "yuv420p"),
    "k.mxf": ("mpeg2video", "yuv420p"),
    "l.y4m": ("rawvideo", "yuv420p"),
    "m.nut": ("rawvideo", "gray"),
}
WITH_SOUND = ("a.mp4", "b.mkv", "g.mov", "i.ts", "j.flv", "h.avi")
IMAGES = ("png", "jpg", "webp", "tiff", "bmp", "tga", "jp2", "avif", "ppm")
HIGH_BIT_DEPTH = {"exr": ("exr", "gbrpf32le"), "dpx": ("dpx", "rgb48be")}
WORDS = [
    *("", " ", "-1", "0", "1", "2", "nan", "inf", "-inf", "1e400", "1e-400", "9" * 50, "0.5", "x", "-", "--", "a=b"),
    *("1/0", "\u65e5", "..", "%d", "#12", "0x1", "1:2:3", "a,b", "[", "{}", "[1,2]", "~", "a\nb", "'", "${x}", "@"),
    *("auto", "off", "true", "none", "all", "cpu", "cuda:9", "meta", "h264", "rdvfi-s", "rdvfi_s", "dis", "psnr"),
]
NAMES = ["o.mp4", "o.mkv", "out", "o.xyz", ".mp4", "a" * 300 + ".mp4", "%d.mp4", "a\nb.mkv", "none/o.mp4", "o.png", "-"]
NAMES += [os.fsdecode(b"o\xff.mkv")]  # no UTF-8
NUMBERS = [0, 1, 2, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 12345]
VALUES: list[Any] = [None, -1, 0, 10**9, 10**30, 1.5, float("nan"), "x", [], {}, True, "../x", [[[]]], "a" * 10_000]
VALUES += [{"name": "dis", "config": {}}, {"name": "hf-hub:a/b"}, ["0", "1"], "1e9", "${oc.env:HOME}"]
HEADER_MARKS = re.compile(
    rb"ftyp|moov|mvhd|trak|tkhd|elst|mdhd|hdlr|stsd|stts|ctts|stsc|stsz|stco|avcC|colr|pasp|esds|mdat|"
    rb"\x1a\x45\xdf\xa3|\x16\x54\xae\x6b|\x1f\x43\xb6\x75|\x15\x49\xa9\x66|\xe0\x9f|\xb0\x82|\x55\xb0|"
    rb"RIFF|avih|strh|strf|idx1|movi|IHDR|PLTE|tRNS|acTL|fcTL|fdAT|IDAT|iCCP|VP8X|ANIM|ANMF|ALPH|II\*\0|jP  |ihdr|"
    rb"av1C|ispe|pixi|GIF89a|\x21\xf9|\x21\xff|\x2c\0|channels|dataWindow|displayWindow|FLV|\x47\x40|YUV4MPEG2"
)
"""Markers of headers of the formats."""
COMMANDS = ("interpolate", "visualize", "evaluate", "convert", "train", "data check", "info", "models", "new-plugin")


def make_seeds(folder: Path) -> dict[str, Path]:
    """Write small valid files of each kind, with equal bytes in every process."""
    rows, columns = np.mgrid[:48, :64]
    frames = [np.stack([columns * 3 + 8 * k, rows * 5, (rows + columns) * 2], -1).astype(np.uint8) for k in range(5)]
    seeds = {name: folder / name for name in VIDEOS}
    for name, (codec, form) in VIDEOS.items():
        _write_video(folder / name, frames, codec, form, sound=name in WITH_SOUND)
    for suffix in IMAGES:
        seeds[suffix] = folder / suffix
        seeds[suffix].mkdir()
        for k, frame in enumerate(frames[:3]):
            PIL.Image.fromarray(frame).save(seeds[suffix] / f"{k}.{suffix}")
    for suffix, (codec, form) in HIGH_BIT_DEPTH.items():
        seeds[suffix] = folder / suffix
        seeds[suffix].mkdir()
        for k, frame in enumerate(frames[:3]):
            (seeds[suffix] / f"{k}.{suffix}").write_bytes(_encode_frame(frame, codec, form))
    for suffix in ("png", "webp"):
        pictures = [PIL.Image.fromarray(frame).convert("RGBA") for frame in frames]
        seeds[f"animated.{suffix}"] = folder / f"animated.{suffix}"
        pictures[0].save(folder / f"animated.{suffix}", save_all=True, append_images=pictures[1:], duration=80)
    shutil.copy(seeds["a.mp4"], folder / os.fsdecode(b"in\xff.mp4"))
    torch.manual_seed(0)
    model = rdvfi.build("rdvfi_s", *OVERRIDES)
    model.mark_trained("backbone", "trajectory", "renderer")
    model.save_pretrained(folder / "model")
    return seeds


def _write_video(path: Path, frames: list[np.ndarray], codec: str, form: str, *, sound: bool) -> None:
    with av.open(str(path), "w", container_options={"fflags": "+bitexact"}) as container:
        encoder_options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
        size = (720, 576) if path.suffix == ".mxf" else (64, 48)
        stream = container.add_stream(
            codec, rate=Fraction(25 if path.suffix == ".mxf" else 12), options=encoder_options
        )
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = *size, form
        audio_stream = (
            container.add_stream("libmp3lame" if path.suffix in (".flv", ".avi") else "aac", rate=44_100)
            if sound
            else None
        )
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            container.mux(stream.encode(picture.reformat(*size, format=form)))
        container.mux(stream.encode(None))
        if audio_stream is not None:
            for k in range(8):
                silence = av.AudioFrame.from_ndarray(np.zeros((2, 2048), np.float32), format="fltp", layout="stereo")
                silence.sample_rate, silence.pts, silence.time_base = 44_100, 2048 * k, Fraction(1, 44_100)
                container.mux(audio_stream.encode(silence))
            container.mux(audio_stream.encode(None))


def _encode_frame(frame: np.ndarray, codec: str, form: str) -> bytes:
    context = av.CodecContext.create(codec, "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt, context.time_base = 64, 48, form, Fraction(1, 12)
    picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format=form)
    return b"".join(bytes(packet) for packet in (*context.encode(picture), *context.encode(None)))


def mutate(data: bytes, rng: random.Random) -> bytes:
    """One mutation, of the kinds caused by damage, transfer errors and attacks."""
    kind = rng.choice(["flip", "zero", "random", "cut", "truncate", "double", "number", "field", "field", "field"])
    at, size = rng.randrange(max(1, len(data))), rng.choice([1, 4, 16, 64, 512])
    if kind == "flip":
        changed = bytearray(data)
        for _ in range(rng.choice([1, 5, 50])):
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        return bytes(changed)
    if kind == "truncate":
        return data[:at]
    if kind == "double":
        return data[: at + size] + data[at:]
    if kind in ("number", "field"):
        marks = [mark.start() for mark in HEADER_MARKS.finditer(data)] if kind == "field" else []
        start = rng.choice(marks) + rng.randrange(-4, 40) if marks else rng.randrange(min(len(data), 600))
        start, width = max(0, start), rng.choice([1, 2, 4])
        value = (rng.choice(NUMBERS) % 256**width).to_bytes(width, rng.choice(["big", "little"]))
        return data[:start] + value + data[start + width :]
    new = {"zero": bytes(size), "random": rng.randbytes(size), "cut": b""}[kind]
    return data[:at] + new + data[at + size :]


def media_case(seeds: dict[str, Path], rng: random.Random) -> Case:
    """A damaged video or image."""
    name = rng.choice(sorted(seeds))
    source, out = seeds[name], rng.choice(["o.mp4", "o.mkv", "o.webm", "o.apng", "o.gif", "o.avi", "o.ts", "out"])
    victim = rng.choice(sorted(source.iterdir())) if source.is_dir() else source
    data = victim.read_bytes()
    for _ in range(rng.choice([1, 1, 1, 3])):
        data = mutate(data, rng) or b"\0"

    def prepare(work: Path) -> list[str]:
        if source.is_dir():
            shutil.copytree(source, work / "in")
        else:
            (work / "in").mkdir()
        (work / "in" / victim.name).write_bytes(data)
        given = work / "in" if source.is_dir() else work / "in" / victim.name
        return ["interpolate", str(given), str(work / "out" / out), *CHEAP, *OVERRIDES]

    return f"media {name}", prepare


@cache
def _options(command: str) -> tuple[tuple[str, bool], ...]:
    """Options of a command, and whether each is a flag."""
    import typer

    from rdvfi_cli.main import application

    group = typer.main.get_command(application())
    for word in command.split():
        group = group.commands[word]  # pyright: ignore[reportAttributeAccessIssue]
    options = [parameter for parameter in group.params if parameter.param_type_name == "option"]
    return tuple((parameter.opts[0], bool(getattr(parameter, "is_flag", False))) for parameter in options)


_NEVER = ("--help", "--show-completion", "--install-completion", "--hub", "--multirun", "--ray", "--devices")
"""Options that only show information, use the network, or start many processes."""


def command_case(seeds: dict[str, Path], rng: random.Random) -> Case:
    """Invalid values of options and file names, for commands that terminate."""
    folder = seeds["a.mp4"].parent
    command = rng.choice([*COMMANDS, *["interpolate"] * 6, "evaluate", "visualize"])
    places = [str(seeds["a.mp4"]), str(seeds["png"]), str(folder / "model")]
    words = [*WORDS, *WORDS, *places, "/dev/null", "/", "none.mp4", "OUT"]
    known_options = [option for option in _options(command) if option[0] not in _NEVER]
    selected: list[str] = []
    for option, switch in rng.sample(known_options, min(len(known_options), rng.choice([1, 1, 2, 3]))):
        selected += [option] if switch else [option, rng.choice(words)]
    source = rng.choice(
        [
            *places[:2] * 3,
            str(folder / os.fsdecode(b"in\xff.mp4")),
            *WORDS[:3],
            "/dev/null",
            "/",
            "none.mp4",
            places[2],
        ]
    )
    if "--recursive" in selected and source == "/":
        source = str(folder)  # the whole disk would exceed the time limit
    out, overrides = rng.choice(NAMES), [f"{rng.choice(WORDS)}={rng.choice(WORDS)}"]

    def prepare(work: Path) -> list[str]:
        output = str(work / "out" / out)
        line = [output if word == "OUT" else word for word in selected]
        own = "--model" in line or "--recipe" in line
        base = [] if own else ["--model", str(folder / "model")]
        arguments = {
            "interpolate": [source, output, *base],
            "visualize": [source, str(work / "out" / "o.png"), *base],
            "evaluate": [source, "--models", "blend", "--gap", "2", "--max-size", "64"],
            "convert": [source, output],
            "train": ["recipe=rdvfi_s_small", f"data.folder={folder}", f"out={output}", "--show", *overrides],
            "data check": [overrides[0], source],
            "info": [overrides[0].split("=")[0], *overrides],
            "new-plugin": [overrides[0].split("=")[0], "--folder", str(work / "out")],
        }
        return [*command.split(), *arguments.get(command, []), *line]

    return f"{command} " + " ".join(map(repr, selected)), prepare


def model_case(seeds: dict[str, Path], rng: random.Random) -> Case:
    """A model folder with a damaged file or changed values."""
    model = seeds["a.mp4"].parent / "model"
    files = {name: (model / name).read_bytes() for name in ("config.json", "model.safetensors")}
    kind = rng.choice(["bytes", "config", "config", "header"])
    if kind == "bytes":
        name = rng.choice(sorted(files))
        files[name] = mutate(files[name], rng)
    elif kind == "config":
        files["config.json"] = json.dumps(_mutate_table(json.loads(files["config.json"]), rng)).encode()
    else:
        data = files["model.safetensors"]
        size = int.from_bytes(data[:8], "little")
        head = json.dumps(_mutate_table(json.loads(data[8 : 8 + size]), rng)).encode()
        files["model.safetensors"] = len(head).to_bytes(8, "little") + head + data[8 + size :]

    def prepare(work: Path) -> list[str]:
        (work / "in").mkdir()
        for name, data in files.items():
            (work / "in" / name).write_bytes(data)
        out = str(work / "out" / "o.mkv")
        return ["interpolate", str(seeds["a.mp4"]), out, "-x", "2", "--model", str(work / "in")]

    return f"model, {kind}", prepare


def _mutate_table(table: Any, rng: random.Random) -> Any:
    """A mapping of plain values with one of them replaced, removed or added."""
    parent = table
    while isinstance(inner := parent[key := rng.choice(sorted(parent))], dict) and inner and rng.random() < 0.8:
        parent = inner
    kind = rng.choice(["value", "value", "remove", "add", "item"])
    if kind == "remove":
        del parent[key]
    elif kind == "add":
        parent[rng.choice(["x", "__class__", "name ", "config", ""])] = rng.choice(VALUES)
    elif kind == "item" and isinstance(inner, list) and inner:
        inner[rng.randrange(len(inner))] = rng.choice(VALUES)
    else:
        parent[key] = rng.choice(VALUES)
    return table


RECIPE_TEXT = """defaults:
  - interpolator
  - backbone: ends
  - coarse: dis
  - trajectory: straight
  - renderer: blend
  - _self_
motion_area: 4096
"""
CURVE_TEXT = "0 1\n0.1 0.5\n0.2 -1\n0.3 0\n0.4 2\n"


def side_case(seeds: dict[str, Path], rng: random.Random) -> Case:
    """A mutated recipe, speed curve, mask or report option, with a valid video."""
    video = seeds["a.mp4"]
    mask = (seeds["png"] / "0.png").read_bytes()
    kind = rng.choice(["recipe", "curve", "mask", "report", "start"])
    data = {"recipe": RECIPE_TEXT.encode(), "curve": CURVE_TEXT.encode(), "mask": mask}.get(kind, b"{}")
    for _ in range(rng.choice([0, 1, 1, 2, 4])):
        data = _mutate_text(data, rng) if kind in ("recipe", "curve") else mutate(data or b"0", rng)
    times = [rng.choice([*WORDS, "0.1", "0:00:00.2", "-0.1"]) for _ in range(2)]

    def prepare(work: Path) -> list[str]:
        (work / "in").mkdir()
        out = str(work / "out" / "o.mkv")
        name = work / "in" / {"recipe": "r.yaml", "mask": "m.png"}.get(kind, "c.txt")
        name.write_bytes(data)
        if kind == "recipe":
            return ["interpolate", str(video), out, "-x", "2", "--recipe", str(name), "--allow-untrained"]
        more = {
            "curve": ["--speed", str(name)],
            "mask": ["--mask", str(name), "-x", "2"],
            "report": ["--report", str(work / "out" / "r.json"), "-x", times[0]],
            "start": ["--start", times[0], "--end", times[1], "-x", "2"],
        }[kind]
        return ["interpolate", str(video), out, *RECIPE, *more, *OVERRIDES]

    return f"{kind} {data[:200]!r}", prepare


def _mutate_text(data: bytes, rng: random.Random) -> bytes:
    """A text with one line or word changed."""
    lines = data.decode(errors="replace").split("\n")
    at = rng.randrange(len(lines))
    kind = rng.choice(["drop", "double", "word", "word", "value", "indent", "bytes"])
    if kind == "bytes":
        return mutate(data, rng) if data else data
    word, value = rng.choice([*WORDS, "&a", "*a", "!!python/object:os.system", "- x", "<<: *a"]), rng.choice(WORDS)
    new = {
        "drop": [],
        "double": [lines[at]] * 2,
        "word": [word],
        "value": [re.sub(r"[^\s:]+$", value.replace("\\", ""), lines[at])],
        "indent": ["   " + lines[at]],
    }[kind]
    return "\n".join([*lines[:at], *new, *lines[at + 1 :]]).encode()


_CASE_KINDS = (media_case, command_case, media_case, model_case, command_case, side_case)


def create_case(number: int, seed: int, seeds: dict[str, Path]) -> Case:
    """The case with this number and seed, equal in every process and independent of earlier cases."""
    return _CASE_KINDS[number % len(_CASE_KINDS)](seeds, random.Random(f"{seed}/{number}"))

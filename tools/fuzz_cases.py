"""What `tools/fuzz.py` tries: whole files to begin with, changes to them, and lines for the command."""

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

Line = Callable[[Path], list[str]]
"""Makes the files of a case in a folder, and returns the arguments of the command."""
Case = tuple[str, Line]

OVERRIDES = ["backbone=ends", "trajectory=straight", "coarse=dis", "renderer=blend", "motion_area=4096"]
RECIPE = ["--recipe", "rdvfi_s", "--allow-untrained"]
CHEAP = [*RECIPE, "-x", "2"]
FILMS = {
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
DEEP = {"exr": ("exr", "gbrpf32le"), "dpx": ("dpx", "rgb48be")}
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
MARKS = re.compile(
    rb"ftyp|moov|mvhd|trak|tkhd|elst|mdhd|hdlr|stsd|stts|ctts|stsc|stsz|stco|avcC|colr|pasp|esds|mdat|"
    rb"\x1a\x45\xdf\xa3|\x16\x54\xae\x6b|\x1f\x43\xb6\x75|\x15\x49\xa9\x66|\xe0\x9f|\xb0\x82|\x55\xb0|"
    rb"RIFF|avih|strh|strf|idx1|movi|IHDR|PLTE|tRNS|acTL|fcTL|fdAT|IDAT|iCCP|VP8X|ANIM|ANMF|ALPH|II\*\0|jP  |ihdr|"
    rb"av1C|ispe|pixi|GIF89a|\x21\xf9|\x21\xff|\x2c\0|channels|dataWindow|displayWindow|FLV|\x47\x40|YUV4MPEG2"
)
"""Where headers of the formats stand."""
COMMANDS = ("interpolate", "visualize", "evaluate", "convert", "train", "data check", "info", "models", "new-plugin")


def make_seeds(folder: Path) -> dict[str, Path]:
    """Small whole files of each kind, in every process the same bytes."""
    rows, columns = np.mgrid[:48, :64]
    frames = [np.stack([columns * 3 + 8 * k, rows * 5, (rows + columns) * 2], -1).astype(np.uint8) for k in range(5)]
    seeds = {name: folder / name for name in FILMS}
    for name, (codec, form) in FILMS.items():
        _film(folder / name, frames, codec, form, sound=name in WITH_SOUND)
    for suffix in IMAGES:
        seeds[suffix] = folder / suffix
        seeds[suffix].mkdir()
        for k, frame in enumerate(frames[:3]):
            PIL.Image.fromarray(frame).save(seeds[suffix] / f"{k}.{suffix}")
    for suffix, (codec, form) in DEEP.items():
        seeds[suffix] = folder / suffix
        seeds[suffix].mkdir()
        for k, frame in enumerate(frames[:3]):
            (seeds[suffix] / f"{k}.{suffix}").write_bytes(_picture(frame, codec, form))
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


def _film(path: Path, frames: list[np.ndarray], codec: str, form: str, *, sound: bool) -> None:
    with av.open(str(path), "w", container_options={"fflags": "+bitexact"}) as container:
        quiet = {"x265-params": "log-level=none"} if codec == "libx265" else {}
        size = (720, 576) if path.suffix == ".mxf" else (64, 48)
        stream = container.add_stream(codec, rate=Fraction(25 if path.suffix == ".mxf" else 12), options=quiet)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = *size, form
        heard = (
            container.add_stream("libmp3lame" if path.suffix in (".flv", ".avi") else "aac", rate=44_100)
            if sound
            else None
        )
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            container.mux(stream.encode(picture.reformat(*size, format=form)))
        container.mux(stream.encode(None))
        if heard is not None:
            for k in range(8):
                silence = av.AudioFrame.from_ndarray(np.zeros((2, 2048), np.float32), format="fltp", layout="stereo")
                silence.sample_rate, silence.pts, silence.time_base = 44_100, 2048 * k, Fraction(1, 44_100)
                container.mux(heard.encode(silence))
            container.mux(heard.encode(None))


def _picture(frame: np.ndarray, codec: str, form: str) -> bytes:
    context = av.CodecContext.create(codec, "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt, context.time_base = 64, 48, form, Fraction(1, 12)
    picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format=form)
    return b"".join(bytes(packet) for packet in (*context.encode(picture), *context.encode(None)))


def mutate(data: bytes, draw: random.Random) -> bytes:
    """One change, of the kinds that damage, transfer and attackers make."""
    kind = draw.choice(["flip", "zero", "random", "cut", "truncate", "double", "number", "field", "field", "field"])
    at, size = draw.randrange(max(1, len(data))), draw.choice([1, 4, 16, 64, 512])
    if kind == "flip":
        changed = bytearray(data)
        for _ in range(draw.choice([1, 5, 50])):
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
        return bytes(changed)
    if kind == "truncate":
        return data[:at]
    if kind == "double":
        return data[: at + size] + data[at:]
    if kind in ("number", "field"):
        marks = [mark.start() for mark in MARKS.finditer(data)] if kind == "field" else []
        start = draw.choice(marks) + draw.randrange(-4, 40) if marks else draw.randrange(min(len(data), 600))
        start, width = max(0, start), draw.choice([1, 2, 4])
        value = (draw.choice(NUMBERS) % 256**width).to_bytes(width, draw.choice(["big", "little"]))
        return data[:start] + value + data[start + width :]
    new = {"zero": bytes(size), "random": draw.randbytes(size), "cut": b""}[kind]
    return data[:at] + new + data[at + size :]


def media_case(seeds: dict[str, Path], draw: random.Random) -> Case:
    """A damaged film or picture."""
    name = draw.choice(sorted(seeds))
    source, out = seeds[name], draw.choice(["o.mp4", "o.mkv", "o.webm", "o.apng", "o.gif", "o.avi", "o.ts", "out"])
    victim = draw.choice(sorted(source.iterdir())) if source.is_dir() else source
    data = victim.read_bytes()
    for _ in range(draw.choice([1, 1, 1, 3])):
        data = mutate(data, draw) or b"\0"

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
    """Options of a command, and whether each is a switch, as the program itself says."""
    import typer

    from rdvfi_cli.main import application

    found = typer.main.get_command(application())
    for word in command.split():
        found = found.commands[word]  # pyright: ignore[reportAttributeAccessIssue]
    options = [each for each in found.params if each.param_type_name == "option"]
    return tuple((each.opts[0], bool(getattr(each, "is_flag", False))) for each in options)


_NEVER = ("--help", "--show-completion", "--install-completion", "--hub", "--multirun", "--ray", "--devices")
"""Options that show something else, reach a network, or begin many processes."""


def command_case(seeds: dict[str, Path], draw: random.Random) -> Case:
    """Senseless values of options and names of files, for a command that ends by itself."""
    folder = seeds["a.mp4"].parent
    command = draw.choice([*COMMANDS, *["interpolate"] * 6, "evaluate", "visualize"])
    places = [str(seeds["a.mp4"]), str(seeds["png"]), str(folder / "model")]
    words = [*WORDS, *WORDS, *places, "/dev/null", "/", "none.mp4", "OUT"]
    known = [option for option in _options(command) if option[0] not in _NEVER]
    chosen: list[str] = []
    for option, switch in draw.sample(known, min(len(known), draw.choice([1, 1, 2, 3]))):
        chosen += [option] if switch else [option, draw.choice(words)]
    source = draw.choice(
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
    if "--recursive" in chosen and source == "/":
        source = str(folder)  # the whole disk takes longer than a try may
    out, overrides = draw.choice(NAMES), [f"{draw.choice(WORDS)}={draw.choice(WORDS)}"]

    def prepare(work: Path) -> list[str]:
        place = str(work / "out" / out)
        line = [place if word == "OUT" else word for word in chosen]
        own = "--model" in line or "--recipe" in line
        base = [] if own else ["--model", str(folder / "model")]
        arguments = {
            "interpolate": [source, place, *base],
            "visualize": [source, str(work / "out" / "o.png"), *base],
            "evaluate": [source, "--models", "blend", "--gap", "2", "--max-size", "64"],
            "convert": [source, place],
            "train": ["recipe=rdvfi_s_small", f"data.folder={folder}", f"out={place}", "--show", *overrides],
            "data check": [overrides[0], source],
            "info": [overrides[0].split("=")[0], *overrides],
            "new-plugin": [overrides[0].split("=")[0], "--folder", str(work / "out")],
        }
        return [*command.split(), *arguments.get(command, []), *line]

    return f"{command} " + " ".join(map(repr, chosen)), prepare


def model_case(seeds: dict[str, Path], draw: random.Random) -> Case:
    """A model folder with a damaged file, or another value in what it says."""
    model = seeds["a.mp4"].parent / "model"
    files = {name: (model / name).read_bytes() for name in ("config.json", "model.safetensors")}
    kind = draw.choice(["bytes", "config", "config", "header"])
    if kind == "bytes":
        name = draw.choice(sorted(files))
        files[name] = mutate(files[name], draw)
    elif kind == "config":
        files["config.json"] = json.dumps(_changed(json.loads(files["config.json"]), draw)).encode()
    else:
        data = files["model.safetensors"]
        size = int.from_bytes(data[:8], "little")
        head = json.dumps(_changed(json.loads(data[8 : 8 + size]), draw)).encode()
        files["model.safetensors"] = len(head).to_bytes(8, "little") + head + data[8 + size :]

    def prepare(work: Path) -> list[str]:
        (work / "in").mkdir()
        for name, data in files.items():
            (work / "in" / name).write_bytes(data)
        out = str(work / "out" / "o.mkv")
        return ["interpolate", str(seeds["a.mp4"]), out, "-x", "2", "--model", str(work / "in")]

    return f"model, {kind}", prepare


def _changed(table: Any, draw: random.Random) -> Any:
    """Plain values with one of them replaced, removed or added."""
    place = table
    while isinstance(inner := place[key := draw.choice(sorted(place))], dict) and inner and draw.random() < 0.8:
        place = inner
    kind = draw.choice(["value", "value", "remove", "add", "item"])
    if kind == "remove":
        del place[key]
    elif kind == "add":
        place[draw.choice(["x", "__class__", "name ", "config", ""])] = draw.choice(VALUES)
    elif kind == "item" and isinstance(inner, list) and inner:
        inner[draw.randrange(len(inner))] = draw.choice(VALUES)
    else:
        place[key] = draw.choice(VALUES)
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


def side_case(seeds: dict[str, Path], draw: random.Random) -> Case:
    """A recipe, curve of speed, mask or report beside a whole film."""
    film = seeds["a.mp4"]
    mask = (seeds["png"] / "0.png").read_bytes()
    kind = draw.choice(["recipe", "curve", "mask", "report", "start"])
    data = {"recipe": RECIPE_TEXT.encode(), "curve": CURVE_TEXT.encode(), "mask": mask}.get(kind, b"{}")
    for _ in range(draw.choice([0, 1, 1, 2, 4])):
        data = _text_changed(data, draw) if kind in ("recipe", "curve") else mutate(data or b"0", draw)
    times = [draw.choice([*WORDS, "0.1", "0:00:00.2", "-0.1"]) for _ in range(2)]

    def prepare(work: Path) -> list[str]:
        (work / "in").mkdir()
        out = str(work / "out" / "o.mkv")
        name = work / "in" / {"recipe": "r.yaml", "mask": "m.png"}.get(kind, "c.txt")
        name.write_bytes(data)
        if kind == "recipe":
            return ["interpolate", str(film), out, "-x", "2", "--recipe", str(name), "--allow-untrained"]
        more = {
            "curve": ["--speed", str(name)],
            "mask": ["--mask", str(name), "-x", "2"],
            "report": ["--report", str(work / "out" / "r.json"), "-x", times[0]],
            "start": ["--start", times[0], "--end", times[1], "-x", "2"],
        }[kind]
        return ["interpolate", str(film), out, *RECIPE, *more, *OVERRIDES]

    return f"{kind} {data[:200]!r}", prepare


def _text_changed(data: bytes, draw: random.Random) -> bytes:
    """A text with a line or a word of it changed."""
    lines = data.decode(errors="replace").split("\n")
    at = draw.randrange(len(lines))
    kind = draw.choice(["drop", "double", "word", "word", "value", "indent", "bytes"])
    if kind == "bytes":
        return mutate(data, draw) if data else data
    word, value = draw.choice([*WORDS, "&a", "*a", "!!python/object:os.system", "- x", "<<: *a"]), draw.choice(WORDS)
    new = {
        "drop": [],
        "double": [lines[at]] * 2,
        "word": [word],
        "value": [re.sub(r"[^\s:]+$", value.replace("\\", ""), lines[at])],
        "indent": ["   " + lines[at]],
    }[kind]
    return "\n".join([*lines[:at], *new, *lines[at + 1 :]]).encode()


_IN_TURN = (media_case, command_case, media_case, model_case, command_case, side_case)


def numbered(number: int, seed: int, seeds: dict[str, Path]) -> Case:
    """A case of a seed: the same in every process, whatever was tried before it."""
    return _IN_TURN[number % len(_IN_TURN)](seeds, random.Random(f"{seed}/{number}"))

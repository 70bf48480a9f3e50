"""Try the command with damaged files and senseless arguments: `make fuzz`.

Media files, images, arguments and model folders are changed at random, seeded, and given to ``rdvfi
interpolate`` in a process each. Whatever happens must be an output that is whole, or one line and exit
code 2: no traceback, crash, hang, half file or leftover.

    python tools/fuzz.py --minutes 5 --seed 0
"""

import argparse
import collections
import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import av
import av.error
import numpy as np
import PIL.Image

import rdvfi
from rdvfi_cli.main import main as command

LIMIT, MEMORY = 60, 12 << 30
CHEAP = ["--recipe", "rdvfi_s", "--allow-untrained", "-x", "2"]
OVERRIDES = ["backbone=ends", "trajectory=straight", "coarse=dis", "renderer=blend", "motion_area=4096"]
FILMS = {
    "a.mp4": ("libx264", "yuv420p"),
    "b.mkv": ("libx265", "yuv420p10le"),
    "c.webm": ("libvpx-vp9", "yuv420p"),
    "d.avi": ("mpeg4", "yuv420p"),
    "e.gif": ("gif", "rgb8"),
    "f.mkv": ("ffv1", "bgr0"),
    "g.mov": ("prores_ks", "yuv422p10le"),
    "h.avi": ("mjpeg", "yuvj420p"),
    "i.ts": ("mpeg2video", "yuv420p"),
}
IMAGES = ("png", "jpg", "webp", "tiff", "bmp", "tga", "jp2", "avif")
WORDS = [
    "",
    " ",
    "-1",
    "0",
    "1",
    "nan",
    "inf",
    "1e400",
    "9" * 50,
    "x",
    "-",
    "a=b",
    "1/0",
    "\u65e5",
    "..",
    "%d",
    "#12",
    "0x1",
]
OPTIONS = (
    "--multiplier --fps --seed --chunk --codec --crf --preset --bitrate --pix-fmt --odd --deinterlace --max-gap "
    "--image-rate --background --max-pixels --scene-threshold --on-scene-change --contact-sheet --device "
    "--dtype --model --threads"
).split()
VALUES = [0, 1, 2, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 12345]


def make_seeds(folder: Path) -> dict[str, Path]:
    """Small whole files of each kind."""
    rows, columns = np.mgrid[:48, :64]
    frames = [np.stack([columns * 3 + 8 * k, rows * 5, (rows + columns) * 2], -1).astype(np.uint8) for k in range(5)]
    seeds = {}
    for name, (codec, form) in FILMS.items():
        with av.open(str(folder / name), "w") as container:
            quiet = {"x265-params": "log-level=none"} if codec == "libx265" else {}
            stream = container.add_stream(codec, rate=Fraction(12), options=quiet)
            assert isinstance(stream, av.VideoStream)
            stream.width, stream.height, stream.pix_fmt = 64, 48, form
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format=form)))
            container.mux(stream.encode(None))
        seeds[name] = folder / name
    for suffix in IMAGES:
        (folder / suffix).mkdir()
        for k, frame in enumerate(frames[:3]):
            PIL.Image.fromarray(frame).save(folder / suffix / f"{k}.{suffix}")
        seeds[suffix] = folder / suffix
    for suffix in ("png", "webp"):
        pictures = [PIL.Image.fromarray(frame) for frame in frames]
        pictures[0].save(folder / f"animated.{suffix}", save_all=True, append_images=pictures[1:], duration=80)
        seeds[f"animated.{suffix}"] = folder / f"animated.{suffix}"
    model = rdvfi.build("rdvfi_s", *OVERRIDES)
    model.mark_trained("backbone", "trajectory", "renderer")
    model.save_pretrained(folder / "model")
    return seeds


def mutate(data: bytes, draw: random.Random) -> bytes:
    """One change, of the kinds that damage, transfer and attackers make."""
    kind = draw.choice(["flip", "zero", "random", "cut", "truncate", "double", "number"])
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
    if kind == "number":
        at = draw.randrange(min(len(data), 600))
        value = draw.choice(VALUES).to_bytes(4, draw.choice(["big", "little"]))
        return data[:at] + value + data[at + 4 :]
    new = {"zero": bytes(size), "random": draw.randbytes(size), "cut": b""}[kind]
    return data[:at] + new + data[at + size :]


def media_cases(seeds: dict[str, Path], draw: random.Random) -> Iterator[tuple[str, Callable[[Path], list[str]]]]:
    """Damaged films and pictures."""
    while True:
        name = draw.choice(sorted(seeds))
        source, out = seeds[name], draw.choice(["o.mp4", "o.mkv", "o.webm", "o.apng", "o.gif", "out"])
        if source.is_dir():
            victim = draw.choice(sorted(source.iterdir())).name
            data = mutate((source / victim).read_bytes(), draw)
        else:
            victim, data = name, mutate(source.read_bytes(), draw)

        def prepare(work: Path, source=source, victim=victim, data=data, out=out, name=name) -> list[str]:
            given = work / "in" / name if not source.is_dir() else work / "in"
            if source.is_dir():
                shutil.copytree(source, work / "in")
                (work / "in" / victim).write_bytes(data)
            else:
                (work / "in").mkdir()
                given.write_bytes(data)
            return ["interpolate", str(given), str(work / "out" / out), *CHEAP, *OVERRIDES]

        yield f"media {name}", prepare


def argument_cases(seeds: dict[str, Path], draw: random.Random) -> Iterator[tuple[str, Callable[[Path], list[str]]]]:
    """Senseless values of options, and names of files."""
    while True:
        source = draw.choice([str(seeds["a.mp4"]), str(seeds["png"]), *WORDS[:3], "/dev/null", "/", "none.mp4"])
        out = draw.choice(
            ["o.mp4", "o.mkv", "out", "o.xyz", ".mp4", "a" * 300 + ".mp4", "%d.mp4", "a\nb.mkv", "none/o.mp4"]
        )
        chosen = [
            part for option in draw.sample(OPTIONS, draw.choice([1, 1, 2, 3])) for part in (option, draw.choice(WORDS))
        ]

        def prepare(work: Path, source=source, out=out, chosen=chosen) -> list[str]:
            base = [] if "--model" in chosen else ["--recipe", "rdvfi_s", "--allow-untrained"]
            tail = [] if "--model" in chosen else OVERRIDES
            return ["interpolate", source, str(work / "out" / out), *base, *chosen, *tail]

        yield "arguments " + " ".join(map(repr, chosen)), prepare


def model_cases(seeds: dict[str, Path], draw: random.Random) -> Iterator[tuple[str, Callable[[Path], list[str]]]]:
    """Model folders with a damaged file, or another value in their configuration."""
    model = seeds["a.mp4"].parent / "model"
    values = [None, -1, 0, 10**9, 10**30, 1.5, "x", [], {}, True, "../x", [[[]]], {"name": "dis", "config": {}}]
    while True:
        files = {name: (model / name).read_bytes() for name in ("config.json", "model.safetensors")}
        if draw.random() < 0.5:
            name = draw.choice(sorted(files))
            files[name] = mutate(files[name], draw)
        else:
            table = json.loads(files["config.json"])
            place = table
            while isinstance(inner := place[key := draw.choice(sorted(place))], dict) and inner and draw.random() < 0.8:
                place = inner
            place[key] = draw.choice(values)
            files["config.json"] = json.dumps(table).encode()

        def prepare(work: Path, files=files) -> list[str]:
            (work / "in").mkdir()
            for name, data in files.items():
                (work / "in" / name).write_bytes(data)
            out = str(work / "out" / "o.mkv")
            return ["interpolate", str(seeds["a.mp4"]), out, "-x", "2", "--model", str(work / "in")]

        yield "model", prepare


def run(arguments: list[str], log: Path) -> tuple[str, str]:
    """How the command ends in a child process, and what it says."""
    pid = os.fork()
    if pid == 0:
        handle = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        code = 99
        try:
            command(arguments)
            code = 0
        except SystemExit as ending:
            code = ending.code if isinstance(ending.code, int) else 0 if ending.code is None else 1
        finally:
            sys.stderr.flush()
            os._exit(code)
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            said = log.read_text(errors="replace")
            if os.WIFSIGNALED(status):
                return f"crash by signal {os.WTERMSIG(status)}", said
            code = os.WEXITSTATUS(status)
            bad = code not in (0, 2) or "Traceback" in said or "internal error" in said
            return (f"traceback ({code})" if bad else "done" if code == 0 else "refused"), said
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "hang", log.read_text(errors="replace")


def faults_of(ending: str, out: Path) -> list[str]:
    """What is wrong with how a case ended and what it left."""
    found = [] if ending in ("done", "refused") else [ending]
    for path in out.iterdir():
        if path.name.startswith(".") and path.name != ".mp4":
            found.append(f"leftover {path.name}")
        elif ending != "done" and not path.is_dir():
            found.append(f"file without success {path.name}")
        elif path.suffix in (".mp4", ".mkv", ".webm", ".gif"):
            try:
                with av.open(f"file:{path}") as container:
                    if not any(True for _ in container.decode(video=0)):
                        found.append("empty output")
            except av.error.FFmpegError as error:
                found.append(f"half file: {error}")
    return found


def fuzz(minutes: float, seed: int, only: int | None) -> int:
    """Try cases for some minutes; how many ended badly."""
    draw, counts, bad = random.Random(seed), collections.Counter(), 0
    with tempfile.TemporaryDirectory() as place:
        seeds = make_seeds(Path(place))
        kinds = [media_cases(seeds, draw), argument_cases(seeds, draw), model_cases(seeds, draw)]
        warm = Path(place) / "warm"
        (warm / "out").mkdir(parents=True)
        command_once(["interpolate", str(seeds["a.mp4"]), str(warm / "out" / "o.mkv"), *CHEAP, *OVERRIDES])
        end, number = time.monotonic() + 60 * minutes, 0
        while time.monotonic() < end:
            number += 1
            name, prepare = next(kinds[0 if number % 5 < 2 else 1 if number % 5 < 4 else 2])
            if only is not None and number != only:
                continue
            work = Path(place) / str(number)
            (work / "out").mkdir(parents=True)
            ending, said = run(prepare(work), Path(place) / "log.txt")
            found = faults_of(ending, work / "out")
            counts[ending] += 1
            if found:
                bad += 1
                print(f"case {number} ({name}): {'; '.join(found)}\n    {said.strip()[-600:]}", flush=True)
            shutil.rmtree(work)
            if only is not None:
                print(name, ending, said)
                break
    print(f"seed {seed}: {number} tries, {dict(counts)}, {bad} bad")
    return bad


def command_once(arguments: list[str]) -> None:
    """Load everything once, so that each child starts warm."""
    stdout, sys.stdout = sys.stdout, io.StringIO()
    try:
        command(arguments)
    except SystemExit:
        pass
    finally:
        sys.stdout = stdout


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int, default=None, help="run one case of a seed alone")
    given = parser.parse_args()
    sys.exit(1 if fuzz(given.minutes, given.seed, given.case) else 0)

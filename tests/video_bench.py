"""A folder in which FFmpeg's command makes films, and a short way to interpolate them."""

import subprocess
import sys
from pathlib import Path

import av

import rdvfi
from rdvfi.video import VideoReport

PICTURE, SOUND = "testsrc2=s=160x96:r=25:d={}", "sine=f=440:r=48000:d={}"
H264 = "-c:v libx264 -preset veryfast -pix_fmt yuv420p"


class Bench:
    """A folder, FFmpeg, and a short way to interpolate."""

    def __init__(self, folder: Path, model: rdvfi.Interpolator) -> None:
        self.folder, self.model = folder, model

    def film(self, name: str, options: str, *, seconds: float = 0.6, sound: bool = False, picture: str = "") -> Path:
        """A film of FFmpeg's test picture."""
        inputs = ["-f", "lavfi", "-i", (picture or PICTURE).format(seconds)]
        inputs += ["-f", "lavfi", "-i", SOUND.format(seconds)] if sound else []
        self.ffmpeg(*inputs, *options.split(), name)
        return self.folder / name

    def ffmpeg(self, *arguments: str) -> None:
        """Run FFmpeg in the folder."""
        begin = ("ffmpeg", "-hide_banner", "-v", "error", "-y", "-nostdin")
        subprocess.run((*begin, *arguments), check=True, cwd=self.folder)

    def make(self, source: Path | str, name: str, **options) -> VideoReport:
        """Twice as many frames, unless said otherwise."""
        options = {"multiplier": 2, **options}
        path = self.folder / source
        return rdvfi.interpolate_video(path, self.folder / name, model=self.model, allow_untrained=True, **options)

    def command(self, *arguments: str, limit: float = 120) -> tuple[int, str]:
        """The command itself: its exit code and what it says."""
        parts = ("--recipe", "rdvfi_s", "--allow-untrained", "backbone=ends", "coarse=dis", "renderer=blend")
        line = [sys.executable, "-m", "rdvfi", "interpolate", *arguments[:2], *parts[3:], *parts[:3]]
        line += arguments[2:]
        done = subprocess.run(line, cwd=self.folder, capture_output=True, timeout=limit, check=False)
        return done.returncode, done.stderr.decode(errors="replace")

    def times(self, name: str) -> list[float]:
        """When each frame is shown."""
        with av.open(str(self.folder / name)) as container:
            base = container.streams.video[0].time_base
            return sorted(float(p.pts * base) for p in container.demux(video=0) if p.pts is not None and p.size)

    def stream(self, name: str) -> tuple[av.VideoStream, av.VideoFrame]:
        """The video track, and its first frame."""
        with av.open(str(self.folder / name)) as container:
            stream = container.streams.video[0]
            return stream, next(container.decode(stream))

    def tracks(self, name: str) -> list[str]:
        """Codecs of all tracks."""
        with av.open(str(self.folder / name)) as container:
            return [s.codec_context.codec.canonical_name if s.codec_context else s.type for s in container.streams]

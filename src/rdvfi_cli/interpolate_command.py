"""The command ``rdvfi interpolate``: options, a progress bar, a closing line."""

import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import typer

from rdvfi_cli import interpolate_options as opt
from rdvfi_cli import options as shared
from rdvfi_cli.hydra_options import HydraOptions, show_config, show_sweep
from rdvfi_cli.interruption import resumable
from rdvfi_cli.job_results import exit_if_failed, print_existing, print_job_result, print_report
from rdvfi_cli.progress import Progress

if TYPE_CHECKING:
    import torch

    from rdvfi.video.job_report import VideoReport
    from rdvfi.video.model_selection import ModelSelection

_ONE_OUTPUT = ("--report", "--contact-sheet")
"""Options for additional outputs that only one job can have."""


@resumable
def interpolate(
    paths: opt.Paths,
    multiplier: opt.Multiplier = None,
    fps: opt.TargetFps = None,
    slow: opt.Slow = None,
    speed: opt.Speed = None,
    start: opt.Start = None,
    end: opt.End = None,
    loop: opt.Loop = False,
    dedup: opt.Dedup = "off",
    mask: opt.Mask = None,
    pipe_format: opt.PipeFormat = None,
    compare: opt.Compare = None,
    report: opt.Report = None,
    json_lines: opt.JsonLines = False,
    model: shared.Model = None,
    recipe: opt.Recipe = None,
    seed: shared.Seed = 0,
    device: shared.Device = None,
    dtype: shared.DType = None,
    chunk: opt.Chunk = None,
    batch: opt.Batch = 1,
    image_rate: opt.ImageRate = None,
    codec: opt.Codec = None,
    crf: opt.Crf = None,
    preset: opt.Preset = None,
    bitrate: opt.Bitrate = None,
    pix_fmt: opt.PixFmt = None,
    odd: opt.Odd = "pad",
    deinterlace: opt.Deinterlace = "auto",
    strict: opt.Strict = False,
    keep_start: opt.KeepStart = False,
    crop_bars: opt.CropBars = False,
    max_gap: opt.MaxGap = 10.0,
    background: opt.Background = "black",
    max_pixels: opt.MaxPixels = None,
    hwaccel: opt.HwAccel = "auto",
    audio: opt.Audio = True,
    contact_sheet: opt.ContactSheet = None,
    on_scene_change: opt.OnSceneChange = "blend",
    scene_threshold: opt.SceneThreshold = None,
    recursive: opt.Recursive = False,
    devices: opt.Devices = None,
    ray: opt.Ray = None,
    resume: opt.Resume = False,
    segment_frames: opt.SegmentFrames = 240,
    overwrite: shared.Overwrite = False,
    allow_untrained: shared.AllowUntrained = False,
    multirun: shared.Multirun = False,
    cfg: shared.ShowConfig = None,
    info: shared.ShowInfo = False,
    config_dir: shared.ConfigDir = None,
    threads: shared.Threads = None,
    quiet: shared.Quiet = False,
) -> None:
    """Make a video smoother: new frames between all frames, with audio and timing kept."""
    arguments = dict(locals())
    from rdvfi.video.model_selection import ModelSelection
    from rdvfi.video.segmented_jobs.remote_files import is_complete, is_url

    for first, second in (("model", "recipe"), ("multiplier", "fps")):
        if arguments[first] is not None and arguments[second] is not None:
            raise ValueError(f"give --{first} or --{second}, not both")
    shared.use_threads(threads)
    paths, overrides = split_overrides(paths)
    selection = ModelSelection(model, recipe, tuple(overrides), config_dir)
    if show_config(selection, HydraOptions(multirun, cfg, info, config_dir)):
        return
    if len(paths) < 2:
        raise ValueError("give one or more inputs and an output: rdvfi interpolate IN... OUT")
    output, sources = paths[-1], [path if is_url(path) else Path(path) for path in paths[:-1]]
    distribution = _refuse_conflicts(arguments, paths)
    # If frames are written to standard output, JSON is written to the error stream.
    lines = None if not json_lines else sys.stderr if output == "-" else sys.stdout
    precision, options = None if dtype is None else shared.parse_dtype(dtype), _job_options(arguments)
    run = _Run(sources, output, selection, device, precision, options, allow_untrained, resume, quiet, lines)
    if distribution:
        executor = "ray" if ray is not None else "process" if devices is None else "devices"
        names = [name for name in (devices or "").split(",") if name]
        run.run_many(recursive=recursive, executor=executor, devices=names, address=ray, threads=threads)
    elif multirun:
        run.run_sweep(compare=compare)
    elif resume and not overwrite and is_complete(Path(output)):
        print_existing(str(Path(output)), quiet=quiet, lines=lines)
    else:
        run.run_one(selection, Path(output), compare=compare, report=report)


def _job_options(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the job by their names in the library, in types of the library."""
    from rdvfi.video.job_options import JobOptions

    def parsed(name: str, parse: Any) -> Any:
        return None if arguments[name] is None else parse(arguments[name])

    return {
        **{name: value for name, value in arguments.items() if name in JobOptions.names()},
        "target_fps": parsed("fps", lambda text: parse_rate(text, "--fps")),
        "image_rate": parsed("image_rate", lambda text: parse_rate(text, "--image-rate")),
        "bitrate": parsed("bitrate", parse_bitrate),
    }


@dataclass(frozen=True)
class _Run:
    """What all jobs of one call of the command share."""

    sources: Sequence[str | Path]
    output: str
    selection: "ModelSelection"
    device: str | None
    dtype: "torch.dtype | None"
    options: Mapping[str, Any]
    allow_untrained: bool
    resume: bool
    quiet: bool
    lines: TextIO | None
    """Where lines of JSON are written; None for text."""

    def _model(self, selection: "ModelSelection") -> dict[str, Any]:
        """The arguments ``model``, ``device`` and ``dtype`` of the library."""
        from rdvfi.video.model_loading import DEFAULT_MODEL

        if selection.recipe is None and not selection.overrides:
            return {"model": selection.model or DEFAULT_MODEL, "device": self.device, "dtype": self.dtype}
        return {"model": selection.build(self.device, self.dtype, seed=self.options["seed"])}

    def run_one(
        self, selection: "ModelSelection", destination: Path, *, compare: str | None = None, report: Path | None = None
    ) -> "VideoReport":
        """Run one job in this process, and print its result."""
        from rdvfi.media.pipes import silence_stdout
        from rdvfi.video import LowConfidenceWarning, interpolate_video
        from rdvfi.video.segmented_jobs.segment_store import default_segments

        model = self._model(selection)
        with warnings.catch_warnings(), Progress(quiet=self.quiet, lines=self.lines) as progress:
            warnings.simplefilter("ignore", LowConfidenceWarning)  # it is part of the result that is printed
            try:
                result = interpolate_video(
                    self.sources,
                    destination,
                    **model,
                    **self.options,
                    compare=compare,
                    report=report,
                    allow_untrained=self.allow_untrained,
                    resume=self.resume,
                    segments=default_segments(destination),
                    progress=progress.show,
                )
            except BrokenPipeError:
                silence_stdout()
                typer.echo("rdvfi: the reader of the output closed it; stopped", err=True)
                raise typer.Exit from None
        print_report(result, destination, quiet=self.quiet, lines=self.lines)
        return result

    def run_sweep(self, *, compare: str | None) -> None:
        """Run a job for every point of a sweep, and print the table."""
        destination = Path(self.output)

        def job(point: "ModelSelection", folder: Path, overrides: Sequence[str]) -> dict[str, Any]:
            label = ",".join(overrides).replace(".", "_").replace("/", "_")
            own = destination.with_name(f"{destination.stem}-{label}{destination.suffix}")
            result = self.run_one(point, own, compare=compare)
            return {"output": str(own), "seconds": result.seconds, "confidence": result.confidence}

        folder = destination.with_name(f"{destination.stem}.multirun")
        show_sweep(self.selection.run_sweep(job, objective="confidence", into=folder), quiet=self.quiet)

    def run_many(self, *, recursive: bool, **workers: Any) -> None:
        """Run the jobs by `rdvfi.interpolate_many`, and end the program with an error if one failed."""
        from rdvfi.video import LowConfidenceWarning, interpolate_many
        from rdvfi.video.many import create_folders, find_jobs

        source = self.sources[0] if len(self.sources) == 1 else self.sources
        jobs = find_jobs(Path(self.sources[0]), Path(self.output)) if recursive else [(source, self.output)]
        folders = create_folders(jobs if recursive else [])
        with folders, warnings.catch_warnings(), Progress(quiet=self.quiet, lines=self.lines) as progress:
            warnings.simplefilter("ignore", LowConfidenceWarning)
            results = interpolate_many(
                jobs,
                **self._model(self.selection),
                **workers,
                **self.options,
                allow_untrained=self.allow_untrained,
                resume=self.resume,
                progress=progress.show,
                done=lambda result: progress.print_between(
                    print_job_result, result, quiet=self.quiet, lines=self.lines
                ),
            )
        exit_if_failed(results)


def _refuse_conflicts(arguments: Mapping[str, Any], paths: Sequence[str]) -> list[str]:
    """Refuse options for one output, or one device, beside options for many; returns what needs `interpolate_many`."""
    from rdvfi.video.segmented_jobs.remote_files import is_url

    used = {"--" + name.replace("_", "-") for name, value in arguments.items() if value not in (None, False)}
    distribution = [name for name in ("--recursive", "--devices", "--ray") if name in used]
    distribution += ["a URL"] if any(map(is_url, paths)) else []
    conflicts = [(many, one) for many in distribution for one in (*_ONE_OUTPUT, "--compare", "--multirun")]
    conflicts += [("--multirun", one) for one in _ONE_OUTPUT]
    conflicts += [("--ray", "--devices"), ("--ray", "--device"), ("--devices", "--device")]
    for many, one in conflicts:
        if many in {*used, *distribution} and one in used:
            raise ValueError(f"{one} cannot be used with {many}: it is for one output, or one device; leave it out")
    if "--recursive" in distribution and "a URL" in distribution:
        raise ValueError("--recursive takes folders of this machine, not URLs")
    if "--recursive" in distribution and len(paths) > 2:
        raise ValueError("--recursive takes one folder and one output; got " + " ".join(paths))
    return distribution


def split_overrides(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Paths, and the overrides ``group=name`` or ``group.field=value`` that follow them."""
    from rdvfi.config.overrides import is_override

    count = len(arguments)
    while count and is_override(arguments[count - 1]):
        count -= 1
    return arguments[:count], arguments[count:]


def parse_bitrate(text: str) -> int:
    """Bits per second: 8000000, 8M or 800k."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kMG]?)", text)
    if match is None:
        raise ValueError(f"--bitrate is {text!r}; expected bits per second such as 8M or 800k")
    return round(float(match[1]) * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[match[2]])


def parse_rate(text: str, option: str) -> Fraction:
    """A frame rate: 60, 59.94 or 60000/1001."""
    from rdvfi.video.timing import exact_rate

    try:
        return exact_rate(text)
    except ValueError as error:
        raise ValueError(f"{option} is {text!r}; expected a frame rate such as 60, 59.94 or 60000/1001") from error

"""The command ``rdvfi interpolate``: options, a progress bar, a closing line."""

import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rdvfi_cli.interruption import resumable
from rdvfi_cli.options import (
    AllowUntrained,
    ConfigDir,
    Device,
    DType,
    Multirun,
    Overwrite,
    Quiet,
    Seed,
    ShowConfig,
    ShowInfo,
    Threads,
    parse_dtype,
    use_threads,
)
from rdvfi_cli.outcome import end_many, tell, tell_result, tell_there
from rdvfi_cli.progress import Progress
from rdvfi_cli.sweeping import Hydra, show_sweep, shown

if TYPE_CHECKING:
    from rdvfi.video.job_report import VideoReport


_PASSED = frozenset(
    "multiplier slow speed start end loop dedup mask pipe_format seed chunk batch codec crf audio preset pix_fmt odd "
    "deinterlace strict keep_start crop_bars max_gap background max_pixels hwaccel overwrite on_scene_change "
    "scene_threshold segment_frames".split()
)
"""Options that are arguments of the library under the same name."""


@resumable
def interpolate(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="IN... OUT",
            help="A video, an animated image, a folder of images, or image files in order; then the output: .mp4, "
            ".m4v, .mov, .mkv, .webm, .ts, .avi, .gif, .webp, .apng, or a folder for PNG images. Either may be a URL "
            "that fsspec knows, as s3://bucket/in.mp4. Overrides of the model or the recipe may follow, such as "
            "basis=linear or flow.size=SMALL.",
        ),
    ],
    multiplier: Annotated[
        str | None,
        typer.Option(
            "--multiplier",
            "-x",
            help="New frame rate over the old one, as 2, 2.5 or 24000/1001; 8, or 1 with --slow and --speed.",
        ),
    ] = None,
    fps: Annotated[
        str | None, typer.Option(help="Instead: constant frames per second, as 60, 59.94 or 60000/1001.")
    ] = None,
    slow: Annotated[
        str | None, typer.Option(help="Slow motion: times so much longer, as 4; sound is stretched at the same pitch.")
    ] = None,
    speed: Annotated[
        Path | None,
        typer.Option(help="A file with a curve of speed: lines of seconds and speed, as 2.5 0.25. Sound is left out."),
    ] = None,
    start: Annotated[str | None, typer.Option(help="Leave out what is before: seconds, or h:mm:ss.")] = None,
    end: Annotated[str | None, typer.Option(help="Leave out what is from there on.")] = None,
    loop: Annotated[
        bool, typer.Option("--loop", help="Make frames from the last one back to the first as well.")
    ] = False,
    dedup: Annotated[
        str,
        typer.Option(
            help="auto: replace repeated pictures, as of animation on twos, by new frames; or the most times that a "
            "picture is shown; off."
        ),
    ] = "off",
    mask: Annotated[
        str | None,
        typer.Option(help="An image that is bright at static pixels, such as logos; or auto to detect them."),
    ] = None,
    pipe_format: Annotated[
        str | None,
        typer.Option(help="What - as output, standard output, becomes: mkv or y4m; as the input if unset, else mkv."),
    ] = None,
    compare: Annotated[
        str | None,
        typer.Option(help="Also write what came out beside what went in: side-by-side, difference (videos) or sheet."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Also write what was done with every pair, and why: a .json file.")
    ] = None,
    json_lines: Annotated[
        bool, typer.Option("--json", help="Tell progress and the result as lines of JSON, for other programs.")
    ] = False,
    model: Annotated[
        str | None, typer.Option("--model", help="A name of `rdvfi models`, a folder or a hub id; rdvfi-s if unset.")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", "-r", help="Instead of a model: a recipe of `rdvfi models`, or a YAML file."),
    ] = None,
    seed: Seed = 0,
    device: Device = None,
    dtype: DType = None,
    chunk: Annotated[int | None, typer.Option(help="Frames drawn at once; chosen by their size if unset.")] = None,
    batch: Annotated[int, typer.Option(help="Pairs of frames at once: 4 or 8 keep a GPU busier.")] = 1,
    image_rate: Annotated[
        str | None, typer.Option(help="Images per second of image input; if unset, 24 come out per second.")
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option(
            help="h264, hevc, av1, vp9, prores, ffv1 (lossless), or on a device h264-nvenc, hevc-nvenc, "
            "hevc-videotoolbox, hevc-qsv, ...; auto: NVENC where it works; chosen by suffix and depth if unset."
        ),
    ] = None,
    crf: Annotated[int | None, typer.Option(help="Quality of the codec: lower is better and larger.")] = None,
    preset: Annotated[str | None, typer.Option(help="The encoder's choice between speed and size, as slow.")] = None,
    bitrate: Annotated[str | None, typer.Option(help="Instead of a quality: bits per second, as 8M.")] = None,
    pix_fmt: Annotated[str | None, typer.Option(help="Pixel format of the encoder, as yuv420p10le.")] = None,
    odd: Annotated[
        str,
        typer.Option(help="Odd widths and heights, which players refuse: pad or crop by one, or 444 (full chroma)."),
    ] = "pad",
    deinterlace: Annotated[
        str, typer.Option(help="auto makes whole frames of interlaced ones; on: also of unmarked ones; off.")
    ] = "auto",
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse damaged input, instead of using the frames that there are.")
    ] = False,
    keep_start: Annotated[
        bool, typer.Option("--keep-start", help="Keep the times of the input's clock, instead of starting at zero.")
    ] = False,
    crop_bars: Annotated[
        bool, typer.Option("--crop-bars", help="Find the bars of a letterboxed picture, and keep them still.")
    ] = False,
    max_gap: Annotated[
        float, typer.Option(help="Seconds between two frames from which on the first is held, not interpolated.")
    ] = 10.0,
    background: Annotated[
        str,
        typer.Option(
            help="Colour under transparent pictures, where the output holds no transparency: black, white, "
            "gray or #rrggbb."
        ),
    ] = "black",
    max_pixels: Annotated[
        int | None, typer.Option(help="Pixels of a frame at most; larger ones are refused unread.", min=1)
    ] = None,
    hwaccel: Annotated[
        str,
        typer.Option(
            help="auto: decode and convert colours on the model's GPU, if it is on one; off: on the processor."
        ),
    ] = "auto",
    audio: Annotated[bool, typer.Option(help="Take the sound along.")] = True,
    contact_sheet: Annotated[
        Path | None, typer.Option(help="Also write a PNG of one pair and the frames between.")
    ] = None,
    on_scene_change: Annotated[
        str,
        typer.Option(
            help="Between two scenes: blend (a dissolve), hold_previous (the frame before the cut) or hold_nearest."
        ),
    ] = "blend",
    scene_threshold: Annotated[
        float | None,
        typer.Option(
            help="Mean confidence, 0 to 1, below which two frames are of two scenes; at 0 all are interpolated."
        ),
    ] = None,
    recursive: Annotated[
        bool, typer.Option("--recursive", help="IN is a folder, OUT another: all videos and image folders below it.")
    ] = False,
    devices: Annotated[
        str | None, typer.Option(help="Work on several devices of this host at a time, as cuda:0,cuda:1.")
    ] = None,
    ray: Annotated[
        str | None, typer.Option(help="Work on a Ray cluster: host:port, auto, or local to start one here.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where an interrupted run of the same job stopped; same bytes.")
    ] = False,
    segment_frames: Annotated[
        int, typer.Option(help="New and old frames in a segment, about; an interrupted run keeps whole ones.")
    ] = 240,
    overwrite: Overwrite = False,
    allow_untrained: AllowUntrained = False,
    multirun: Multirun = False,
    cfg: ShowConfig = None,
    info: ShowInfo = False,
    config_dir: ConfigDir = None,
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Make a video smoother: new frames between all frames, sound and timing kept."""
    options: dict[str, Any] = {name: value for name, value in locals().items() if name in _PASSED}
    from rdvfi.media.pipes import silence_stdout
    from rdvfi.video import LowConfidenceWarning, interpolate_many, interpolate_video
    from rdvfi.video.chosen_model import Chosen
    from rdvfi.video.many import jobs_below, made_folders
    from rdvfi.video.ready import DEFAULT_MODEL, ModelLike
    from rdvfi.video.segmented_jobs.remote_files import is_complete, is_url
    from rdvfi.video.video_job import default_segments

    for option, value, other, second in (("model", model, "recipe", recipe), ("multiplier", multiplier, "fps", fps)):
        if value is not None and second is not None:
            raise ValueError(f"give --{option} or --{other}, not both")
    use_threads(threads)
    given, overrides = split_overrides(paths)
    selection, asked = Chosen(model, recipe, tuple(overrides), config_dir), Hydra(multirun, cfg, info, config_dir)
    if shown(selection, asked):
        return
    if len(given) < 2:
        raise ValueError("give one or more inputs and an output: rdvfi interpolate IN... OUT")
    sources, destination = [each if is_url(each) else Path(each) for each in given[:-1]], Path(given[-1])
    remote = any(map(is_url, given))
    number = None if dtype is None else parse_dtype(dtype)
    named = recipe is None and not overrides
    spread = {"--recursive": recursive, "--devices": devices is not None, "--ray": ray is not None, "a URL": remote}
    _refuse_together(
        [name for name, wanted in spread.items() if wanted],
        {"--compare": compare, "--report": report, "--contact-sheet": contact_sheet, "--multirun": multirun or None},
    )
    _refuse_together(["--multirun"] if multirun else [], {"--report": report, "--contact-sheet": contact_sheet})
    _refuse_together(["--ray"] if ray is not None else [], {"--devices": devices, "--device": device})
    _refuse_together(["--devices"] if devices is not None else [], {"--device": device})
    if recursive and remote:
        raise ValueError("--recursive takes folders of this machine, not URLs")
    if recursive and len(sources) > 1:
        raise ValueError("--recursive takes one folder and one output; got " + " ".join(given))

    options |= {
        "target_fps": None if fps is None else parse_rate(fps, "--fps"),
        "image_rate": None if image_rate is None else parse_rate(image_rate, "--image-rate"),
        "bitrate": None if bitrate is None else parse_bitrate(bitrate),
    }

    def make(chosen: ModelLike, destination: Path, progress: Progress) -> "VideoReport":
        # The same is said below, once the progress bar is gone.
        warnings.simplefilter("ignore", LowConfidenceWarning)
        return interpolate_video(
            sources,
            destination,
            model=chosen,
            compare=compare,
            report=report,
            device=device if named else None,
            dtype=number if named else None,
            allow_untrained=allow_untrained,
            contact_sheet=contact_sheet,
            resume=resume,
            segments=default_segments(destination),
            progress=progress.show,
            **options,
        )

    # Standard output may be where the frames go.
    lines = None if not json_lines else sys.stderr if str(destination) == "-" else sys.stdout

    def done(point: "Chosen", destination: Path) -> "VideoReport":
        chosen = (model or DEFAULT_MODEL) if named else point.built(device, number, seed=seed)
        with warnings.catch_warnings(), Progress(quiet=quiet, lines=lines) as progress:
            try:
                result = make(chosen, destination, progress)
            except BrokenPipeError:
                silence_stdout()
                typer.echo("rdvfi: the reader of the output closed it; stopped", err=True)
                raise typer.Exit from None
        tell(result, destination, quiet=quiet, lines=lines)
        return result

    def job(point: "Chosen", folder: Path, given: Sequence[str]) -> dict[str, Any]:
        label = ",".join(given).replace(".", "_").replace("/", "_")
        own = destination.with_name(f"{destination.stem}-{label}{destination.suffix}")
        result = done(point, own)
        return {"output": str(own), "seconds": result.seconds, "confidence": result.confidence}

    if any(spread.values()):
        one = sources[0] if len(sources) == 1 else sources
        jobs = jobs_below(Path(given[0]), destination) if recursive else [(one, given[-1])]
        made = made_folders(jobs if recursive else [])
        with made, warnings.catch_warnings(), Progress(quiet=quiet, lines=lines) as progress:
            warnings.simplefilter("ignore", LowConfidenceWarning)
            results = interpolate_many(
                jobs,
                model=(model or DEFAULT_MODEL) if named else selection.built(device, number, seed=seed),
                device=device if named else None,
                dtype=number if named else None,
                allow_untrained=allow_untrained,
                executor="ray" if ray is not None else "process" if devices is None else "devices",
                devices=[each for each in (devices or "").split(",") if each],
                address=ray,
                threads=threads,
                resume=resume,
                progress=progress.show,
                done=lambda result: progress.aside(tell_result, result, quiet=quiet, lines=lines),
                **options,
            )
        end_many(results)
    elif multirun:
        into = destination.with_name(f"{destination.stem}.multirun")
        show_sweep(selection.swept(job, objective="confidence", into=into), quiet=quiet)
    elif resume and not overwrite and is_complete(destination):
        tell_there(str(destination), quiet=quiet, lines=lines)
    else:
        done(selection, destination)


def _refuse_together(names: Sequence[str], others: Mapping[str, Any]) -> None:
    """Refuse what is for one output, or for one device, beside options for many."""
    wrong = [name for name, value in others.items() if value is not None]
    if names and wrong:
        raise ValueError(
            f"{wrong[0]} cannot be used with {names[0]}: it is for one output, or one device; leave it out"
        )


def split_overrides(arguments: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
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

"""The options of ``rdvfi interpolate``, grouped by concern."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from rdvfi_cli.completion import complete_override, recipe_names

# Input, output and model
Paths = Annotated[
    list[str],
    Argument(
        metavar="IN... OUT",
        help="A video, an animated image, a folder of images, or image files in order; then the output: .mp4, "
        ".m4v, .mov, .mkv, .webm, .ts, .avi, .gif, .webp, .apng, or a folder for PNG images. Either may be a URL "
        "that fsspec knows, as s3://bucket/in.mp4. Overrides of the model or the recipe may follow, such as "
        "basis=linear or flow.size=SMALL.",
        autocompletion=complete_override,
    ),
]
Recipe = Annotated[
    str | None,
    Option(
        "--recipe",
        "-r",
        help="Instead of a model: a recipe of `rdvfi models`, or a YAML file.",
        autocompletion=recipe_names,
    ),
]

# Timing
Multiplier = Annotated[
    str | None,
    Option(
        "--multiplier",
        "-x",
        help="New frame rate over the old one, as 2, 2.5 or 24000/1001; 8, or 1 with --slow and --speed.",
    ),
]
TargetFps = Annotated[str | None, Option(help="Constant frames per second instead, as 60, 59.94 or 60000/1001.")]
Slow = Annotated[str | None, Option(help="Slow motion by this factor, as 4; audio is stretched at the same pitch.")]
Speed = Annotated[Path | None, Option(help="A file with a speed curve: lines of seconds and speed, as 2.5 0.25.")]
Start = Annotated[str | None, Option(help="Where to start in the input: seconds, or h:mm:ss.")]
End = Annotated[str | None, Option(help="Where to end in the input: seconds, or h:mm:ss.")]
Loop = Annotated[bool, Option("--loop", help="Interpolate from the last frame back to the first as well.")]
Dedup = Annotated[
    str,
    Option(
        help="auto: replace repeated frames, as of animation on twos, by new ones; or the largest number of times that "
        "a picture is shown; off."
    ),
]

# Reading
ImageRate = Annotated[str | None, Option(help="Images per second of image input; by default the output plays at 24.")]
KeepStart = Annotated[bool, Option("--keep-start", help="Keep the timestamps of the input, instead of starting at 0.")]
Strict = Annotated[bool, Option("--strict", help="Refuse damaged input, instead of using what can be decoded.")]
Deinterlace = Annotated[str, Option(help="auto: deinterlace frames that are marked as interlaced; on: all; off.")]
Background = Annotated[str, Option(help="Colour behind transparency, if the output has none: black, gray, #rrggbb...")]
MaxPixels = Annotated[int | None, Option(help="Largest number of pixels in a frame; larger ones are refused.", min=1)]
HwAccel = Annotated[str, Option(help="auto: decode and convert colours on the model's GPU, if any; off: on the CPU.")]

# Content
Mask = Annotated[str | None, Option(help="An image, bright at static pixels such as logos; or auto to detect them.")]
CropBars = Annotated[bool, Option("--crop-bars", help="Detect and copy letterbox bars; interpolate between them.")]
MaxGap = Annotated[float, Option(help="Seconds between two frames above which the first is held, not interpolated.")]
OnSceneChange = Annotated[str, Option(help="Between two scenes: blend (dissolve), hold_previous or hold_nearest.")]
SceneThreshold = Annotated[float | None, Option(help="Confidence, 0 to 1, below which two frames are of two scenes.")]

# Computation
Chunk = Annotated[int | None, Option(help="Frames rendered at once; chosen by their size if unset.")]
Batch = Annotated[int, Option(help="Pairs of frames at once: 4 or 8 keep a GPU busier.")]
Recursive = Annotated[bool, Option("--recursive", help="IN and OUT are folders: all videos and image folders in IN.")]
Devices = Annotated[str | None, Option(help="Work on several devices of this host at a time, as cuda:0,cuda:1.")]
Ray = Annotated[str | None, Option(help="Work on a Ray cluster: host:port, auto, or local to start one here.")]
Resume = Annotated[bool, Option("--resume", help="Continue an interrupted run of the same job, to the same bytes.")]
SegmentFrames = Annotated[int, Option(help="Output frames of a segment, about; finished segments are kept.")]

# Encoding
Codec = Annotated[
    str | None,
    Option(
        help="h264, hevc, av1, vp9, prores, ffv1 (lossless), or on a device h264-nvenc, hevc-nvenc, "
        "hevc-videotoolbox, hevc-qsv, ...; auto: NVENC where it works; chosen by suffix and depth if unset."
    ),
]
Crf = Annotated[int | None, Option(help="Quality of the codec: lower is better and larger.")]
Preset = Annotated[str | None, Option(help="The encoder's trade-off of speed and size, as slow.")]
Bitrate = Annotated[str | None, Option(help="Instead of a quality: bits per second, as 8M.")]
PixFmt = Annotated[str | None, Option(help="Pixel format of the encoder, as yuv420p10le.")]
Odd = Annotated[str, Option(help="Odd widths and heights, which players refuse: pad, crop, or 444 (full chroma).")]
Audio = Annotated[bool, Option(help="Keep the audio.")]
PipeFormat = Annotated[
    str | None, Option(help="Format of standard output (-): mkv or y4m; if unset, that of the input, or mkv.")
]

# Reporting
Compare = Annotated[str | None, Option(help="Also write a comparison: side-by-side, difference (videos) or sheet.")]
Report = Annotated[Path | None, Option(help="Also write what was done for every pair, and why: a .json file.")]
JsonLines = Annotated[bool, Option("--json", help="Print progress and the result as lines of JSON.")]
ContactSheet = Annotated[Path | None, Option(help="Also write a PNG of one pair and the frames between.")]

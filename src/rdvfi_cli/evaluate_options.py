"""Options of ``rdvfi evaluate``, in the groups of its help."""

from pathlib import Path
from typing import Annotated

import typer

from rdvfi_cli.completion import complete_methods, complete_override, complete_protocol
from rdvfi_cli.options import complete_dtype

_FRAMES, _METHODS, _SCORES, _OUTPUTS = "Frames", "Methods", "Scores", "Outputs"

Clip = Annotated[
    str | None,
    typer.Argument(
        help="A video, a folder of images, or generated scenes: 'procedural', 'procedural-limbs', "
        "'laboratory-determined', 'laboratory-undetermined'."
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        help="Overrides of RDVFI-S, or of the one --model or --recipe, such as basis=linear.",
        autocompletion=complete_override,
    ),
]

ProtocolName = Annotated[
    str | None,
    typer.Option(
        help="Instead of a clip: a published protocol, such as davis-7, or a YAML file.",
        autocompletion=complete_protocol,
        rich_help_panel=_FRAMES,
    ),
]
Root = Annotated[Path | None, typer.Option(help="Folder of the protocol's clips.", rich_help_panel=_FRAMES)]
Gap = Annotated[
    int | None,
    typer.Option(help="Distance between input frames, in frames; 9 if unset.", rich_help_panel=_FRAMES),
]
Start = Annotated[int, typer.Option(help="Number of the first input frame.", rich_help_panel=_FRAMES)]
Pairs = Annotated[int | None, typer.Option(help="Number of input pairs; all if unset.", rich_help_panel=_FRAMES)]
MaxSize = Annotated[
    int | None,
    typer.Option(
        help="Maximum length of the longer side in pixels; larger frames are reduced.", rich_help_panel=_FRAMES
    ),
]
SkipCuts = Annotated[
    bool | None,
    typer.Option(
        "--skip-cuts/--keep-cuts",
        help="Leave out pairs with a scene cut between them; if unset, in clips of more than 1,000 frames only.",
        rich_help_panel=_FRAMES,
    ),
]
Conversion = Annotated[
    str,
    typer.Option(
        help="Conversion of video to RGB: ffmpeg (its default, as in published figures) or exact.",
        rich_help_panel=_FRAMES,
    ),
]

MethodNames = Annotated[
    str | None,
    typer.Option(
        help="Models and baselines, separated by commas: rdvfi-s, a saved folder, blend, dis, dis-448, rife; append "
        "+blur1 to blur the frames of a method. rdvfi-s,dis,blend without --model and --recipe.",
        autocompletion=complete_methods,
        rich_help_panel=_METHODS,
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        help="A model with parts exchanged: 'linear=rdvfi-s basis=linear'. Repeatable.", rich_help_panel=_METHODS
    ),
]
Recipes = Annotated[
    list[str] | None,
    typer.Option(
        help="The model of a recipe, with fresh weights: 'mine=my.yaml basis=linear'. Repeatable.",
        rich_help_panel=_METHODS,
    ),
]
External = Annotated[
    list[str] | None,
    typer.Option(
        help="Another program: 'name=COMMAND {first} {last} {count} {out}', name=FOLDER with its frames, or "
        "name@FOLDER for a documented command. Repeatable.",
        rich_help_panel=_METHODS,
    ),
]
Ablate = Annotated[
    bool, typer.Option(help="Also evaluate each model with a learned part replaced.", rich_help_panel=_METHODS)
]

Metrics = Annotated[
    str | None,
    typer.Option(
        help="Metrics, separated by commas, or 'all': psnr, ssim, lpips-alex, fid, ... If unset, psnr, ssim and "
        "gradient-energy, or the metrics of the protocol.",
        rich_help_panel=_SCORES,
    ),
]
Perceptual = Annotated[
    bool, typer.Option(help="Also compute FSIM, VIF and GMSD (extra 'metrics').", rich_help_panel=_SCORES)
]
GroupBy = Annotated[
    str,
    typer.Option(
        help="Also show scores by 'motion' (its size), by 'occlusion', or by both, separated by a comma.",
        rich_help_panel=_SCORES,
    ),
]
Reference = Annotated[
    str | None,
    typer.Option(
        help="Also show paired differences of every method to this one, with 95 % intervals.", rich_help_panel=_SCORES
    ),
]
Cost = Annotated[
    bool,
    typer.Option(
        help="Also measure milliseconds per pair and per extra frame, and peak memory.", rich_help_panel=_SCORES
    ),
]

CostPlot = Annotated[
    Path | None,
    typer.Option(
        help="Also plot time against width (576 to 3840) and number of frames, as .png, .svg or .pdf.",
        rich_help_panel=_OUTPUTS,
    ),
]
InputsFolder = Annotated[
    Path | None,
    typer.Option(
        help="Only write both inputs of every pair into this folder, for programs that run elsewhere.",
        rich_help_panel=_OUTPUTS,
    ),
]
Output = Annotated[
    Path | None, typer.Option(help="Save the report here, as .json, .csv or .md.", rich_help_panel=_OUTPUTS)
]
ReportPage = Annotated[
    Path | None,
    typer.Option(
        "--report",
        help="Also write an .html page with the table, plots, and the worst, median and best pairs (extra 'plot').",
        rich_help_panel=_OUTPUTS,
    ),
]
ReportGaps = Annotated[
    str,
    typer.Option(
        help="More gaps for the page's plot of quality against gap, separated by commas: 2,4,16.",
        rich_help_panel=_OUTPUTS,
    ),
]

ComputeDevice = Annotated[str, typer.Option(help="Device, such as cpu or cuda.")]
ComputeDType = Annotated[str, typer.Option(help="float32, float16 or bfloat16.", autocompletion=complete_dtype)]

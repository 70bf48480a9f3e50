"""Options of ``rdvfi evaluate``, in the groups of its help."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from rdvfi_cli.completion import complete_methods, complete_override, model_names, protocol_names, recipe_names
from rdvfi_cli.options import DTYPES

_frames, _methods, _scores, _outputs = (
    partial(typer.Option, rich_help_panel=title) for title in ("Frames", "Methods", "Scores", "Outputs")
)

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

_PROTOCOL = "Instead of a clip: a published protocol, such as davis-7, or a YAML file."
ProtocolName = Annotated[str | None, _frames(help=_PROTOCOL, autocompletion=protocol_names)]
Root = Annotated[Path | None, _frames(help="Folder of the protocol's clips.")]
Gap = Annotated[int | None, _frames(help="Distance between input frames, in frames; 9 if unset.")]
Start = Annotated[int, _frames(help="Number of the first input frame.")]
Pairs = Annotated[int | None, _frames(help="Number of input pairs; all if unset.")]
MaxSize = Annotated[int | None, _frames(help="Largest length of the longer side in pixels; larger frames are reduced.")]
_SKIP_CUTS = "Leave out pairs with a scene cut between them; if unset, in clips of more than 1,000 frames only."
SkipCuts = Annotated[bool | None, _frames("--skip-cuts/--keep-cuts", help=_SKIP_CUTS)]
_CONVERSION = "Conversion of video to RGB: ffmpeg (its default, as in published figures) or exact."
Conversion = Annotated[str, _frames(help=_CONVERSION)]

MethodNames = Annotated[
    str | None,
    _methods(
        help="Models and baselines, separated by commas: rdvfi-s, a saved folder, blend, dis, dis-448, rife; append "
        "+blur1 to blur the frames of a method. rdvfi-s,dis,blend without --model and --recipe.",
        autocompletion=complete_methods,
    ),
]
_MODELS = "A model with parts exchanged: 'linear=rdvfi-s basis=linear'. Repeatable."
Models = Annotated[list[str] | None, _methods(help=_MODELS, autocompletion=model_names)]
_RECIPES = "The model of a recipe, with fresh weights: 'mine=my.yaml basis=linear'. Repeatable."
Recipes = Annotated[list[str] | None, _methods(help=_RECIPES, autocompletion=recipe_names)]
External = Annotated[
    list[str] | None,
    _methods(
        help="Another program: 'name=COMMAND {first} {last} {count} {out}', name=FOLDER with its frames, or "
        "name@FOLDER for a documented command. Repeatable."
    ),
]
Ablate = Annotated[bool, _methods(help="Also evaluate each model with a learned part replaced.")]

Metrics = Annotated[
    str | None,
    _scores(
        help="Metrics, separated by commas, or 'all': psnr, ssim, lpips-alex, fid, ... If unset, psnr, ssim and "
        "gradient-energy, or the metrics of the protocol."
    ),
]
Perceptual = Annotated[bool, _scores(help="Also compute FSIM, VIF and GMSD (extra 'metrics').")]
_GROUP_BY = "Also show scores by 'motion' (its size), by 'occlusion', or by both, separated by a comma."
GroupBy = Annotated[str, _scores(help=_GROUP_BY)]
_REFERENCE = "Also show paired differences of every method to this one, with 95 % intervals."
Reference = Annotated[str | None, _scores(help=_REFERENCE)]
Cost = Annotated[bool, _scores(help="Also measure milliseconds per pair and per extra frame, and peak memory.")]

_COST_PLOT = "Also plot time against width (576 to 3840) and number of frames, as .png, .svg or .pdf."
CostPlot = Annotated[Path | None, _outputs(help=_COST_PLOT)]
_INPUTS = "Only write both inputs of every pair into this folder, for programs that run elsewhere."
InputsFolder = Annotated[Path | None, _outputs(help=_INPUTS)]
Output = Annotated[Path | None, _outputs(help="Save the report here, as .json, .csv or .md.")]
_PAGE = "Also write an .html page with the table, plots, and the worst, median and best pairs (extra 'plot')."
ReportPage = Annotated[Path | None, _outputs("--report", help=_PAGE)]
_GAPS = "More gaps for the page's plot of quality against gap, separated by commas: 2,4,16."
ReportGaps = Annotated[str, _outputs(help=_GAPS)]

ComputeDevice = Annotated[str, typer.Option(help="Device, such as cpu or cuda.")]
ComputeDType = Annotated[str, typer.Option(help=", ".join(DTYPES), autocompletion=lambda: DTYPES)]

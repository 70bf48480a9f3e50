"""The command ``rdvfi evaluate``."""

from pathlib import Path

from rdvfi_cli import evaluate_options as opts
from rdvfi_cli.hydra_options import HydraOptions
from rdvfi_cli.model_selections import parse_selections, split_list
from rdvfi_cli.options import ConfigDir, Multirun, Quiet, ShowConfig, ShowInfo, Threads, parse_dtype, use_threads


def evaluate(
    clip: opts.Clip = None,
    overrides: opts.Overrides = None,
    protocol: opts.ProtocolName = None,
    root: opts.Root = None,
    gap: opts.Gap = None,
    models: opts.MethodNames = None,
    model: opts.Models = None,
    recipe: opts.Recipes = None,
    external: opts.External = None,
    start: opts.Start = 0,
    pairs: opts.Pairs = None,
    max_size: opts.MaxSize = None,
    skip_cuts: opts.SkipCuts = None,
    conversion: opts.Conversion = "ffmpeg",
    metrics: opts.Metrics = None,
    perceptual: opts.Perceptual = False,
    by: opts.GroupBy = "",
    compare: opts.Reference = None,
    ablate: opts.Ablate = False,
    cost: opts.Cost = False,
    sweep: opts.CostPlot = None,
    export: opts.InputsFolder = None,
    output: opts.Output = None,
    report_page: opts.ReportPage = None,
    report_gaps: opts.ReportGaps = "",
    device: opts.ComputeDevice = "cpu",
    dtype: opts.ComputeDType = "float32",
    multirun: Multirun = False,
    cfg: ShowConfig = None,
    info: ShowInfo = False,
    config_dir: ConfigDir = None,
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Measure models and baselines against the true frames of a clip.

    Every GAP-th frame is an input; the frames between are interpolated and compared with the true ones.
    """
    from rdvfi.evaluation.metrics import metrics as known_metrics
    from rdvfi_cli import evaluation_job as job

    use_threads(threads)
    location = clip_or_root(clip, protocol, root)
    frames = {"protocol": protocol, "start": start, "pairs": pairs, "max_size": max_size}
    frames |= {"skip_cuts": skip_cuts, "conversion": conversion}
    selections = parse_selections(model or [], recipe or [], overrides or [], config_dir)
    if models is None and not (model or recipe or multirun):
        models = "dis,blend" if selections else "rdvfi-s,dis,blend"
    methods = job.MethodOptions(
        split_list(models or ""), selections, external or [], ablate, device, parse_dtype(dtype)
    )
    chosen_metrics = sorted(known_metrics) if metrics == "all" else None if metrics is None else split_list(metrics)
    scores = {"metrics": chosen_metrics, "perceptual": perceptual, "group_by": split_list(by), "cost": cost}
    outputs = job.OutputOptions(output, report_page, report_gaps, sweep, export, quiet)
    hydra = HydraOptions(multirun, cfg, info, config_dir)
    job.EvaluationJob(location, gap, frames, methods, scores, compare, outputs, hydra).run()


def clip_or_root(clip: str | None, protocol: str | None, root: Path | None) -> str | Path:
    """The clip, or the folder of the protocol's clips; raises ValueError unless exactly one is given."""
    if (clip is None) == (protocol is None):
        given = "neither is given" if clip is None else f"got {clip} and {protocol}"
        raise ValueError(f"name a clip, or a protocol with --protocol and --root; {given}")
    if (protocol is None) != (root is None):
        raise ValueError("--protocol and --root belong together: a protocol, and the folder of its clips")
    return clip or root or ""

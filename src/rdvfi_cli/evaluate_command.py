"""The command ``rdvfi evaluate``."""

from rdvfi_cli import evaluate_options as opts
from rdvfi_cli.model_selections import parse_selections, split_list
from rdvfi_cli.options import ConfigDir, Multirun, Quiet, ShowConfig, ShowInfo, Threads, parse_dtype, use_threads
from rdvfi_cli.sweeping import Hydra


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
    from rdvfi_cli import evaluation_job as job

    use_threads(threads)
    selections = parse_selections(model or [], recipe or [], overrides or [], config_dir)
    if models is None and not (model or recipe or multirun):
        models = "dis,blend" if selections else "rdvfi-s,dis,blend"
    job.run_job(
        job.FrameOptions(clip, protocol, root, gap, start, pairs, max_size, skip_cuts, conversion),
        job.MethodOptions(
            split_list(models or ""), selections, external or [], ablate, device=device, dtype=parse_dtype(dtype)
        ),
        job.ScoreOptions(None if metrics is None else split_list(metrics), perceptual, split_list(by), compare, cost),
        job.OutputOptions(output, report_page, report_gaps, sweep, export, quiet),
        Hydra(multirun, cfg, info, config_dir),
    )

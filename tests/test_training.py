"""Training: every stage takes real steps on its own parts, and what is wrong is named."""

import copy
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from skimage import data as photographs
from torch import nn

from data_folder import write_data_folder
from rdvfi.config import build as build_model
from rdvfi.data.pair_pool import build_pairs
from rdvfi.data.pool import SAMPLE_KINDS, Pool, build_pool
from rdvfi.data.samples import Film, load_pictures
from rdvfi.data.sources import SampleStream
from rdvfi.data.synthetic.procedural_source import KNOTS
from rdvfi.interpolator import Interpolator
from rdvfi.media.image_files.images import write_png
from rdvfi.models import create_model
from rdvfi.saved_models.model_names import bundled_files
from rdvfi.training import checks, feeds, run
from rdvfi.training.losses.loss_registry import Needs, WeightedLosses
from rdvfi.training.model_parts import get_part, load_parts, save_parts, train_only
from rdvfi.training.objectives.clip_batch import ClipBatch
from rdvfi.training.objectives.decoding import AutoencoderObjective, DecodingObjective
from rdvfi.training.objectives.one_step import DiffusionObjective
from rdvfi.training.objectives.training_step import TrainingStep
from rdvfi.training.recipes import compose_stages, list_training_recipes
from rdvfi.training.stage import SourceKind, StageKind

SIZE = (64, 96)


def _silent(line: str) -> None:
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data_folder(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def pools(folder: Path) -> tuple[Pool, Pool]:
    for kind, count in zip(SAMPLE_KINDS, (6, 4), strict=True):
        build_pool(folder, folder / "pool" / kind, kind, count, size=SIZE, workers=1)
        build_pairs(folder, folder / "pool" / f"pairs-{kind}", kind, count, size=SIZE, workers=1)
    made = [Pool(folder / "pool" / kind) for kind in SAMPLE_KINDS]
    return made[0], made[1]


@pytest.fixture(scope="module")
def untouched() -> Interpolator:
    (stage,) = compose_stages("rdvfi_s1/motion", ["data.folder=x", "out=x", "after=[]"])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return run.prepare_model(stage)


@pytest.fixture
def model(untouched: Interpolator) -> Interpolator:
    return copy.deepcopy(untouched)


def test_a_pool_holds_frames_coarse_flow_and_exact_flow(pools: tuple[Pool, Pool]) -> None:
    procedural, film = (pool.batch([0, 2]) for pool in pools)
    for batch in (procedural, film):
        assert batch["frames"].shape == (2, 12, 3, *SIZE)
        assert batch["frames"].min() >= 0
        assert batch["frames"].max() <= 1
        assert batch["coarse"].shape == (2, 2, 2, SIZE[0] // 2, SIZE[1] // 2)
        torch.testing.assert_close(batch["times"][:, :KNOTS], (torch.arange(9) / 8).expand(2, 9), rtol=0, atol=1e-6)
    assert procedural["flows"].shape == (2, 12, 4, 2, SIZE[0] // 8, SIZE[1] // 8)
    assert not procedural["flows"][:, 0, 0].any()  # to the first frame, at the first frame
    assert not procedural["flows"][:, KNOTS - 1, 1].any()
    assert "flows" not in film


def test_a_sample_depends_on_its_index_alone(folder: Path, pools: tuple[Pool, Pool]) -> None:
    again = folder / "pool" / "again"
    build_pool(folder, again, "film", 4, size=SIZE, workers=2)
    for name in ("frames", "coarse", "times"):
        assert torch.equal(Pool(again).batch([3])[name], pools[1].batch([3])[name])


def _finite(module: nn.Module) -> bool:
    return all(bool(torch.isfinite(parameter).all()) for parameter in module.parameters())


def _fit(objective: nn.Module, batches: list[dict[str, torch.Tensor]], steps: int) -> list[float]:
    """Plain steps of AdamW; returns the sum of the losses before each."""
    parameters = [p for p in objective.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=2e-3)
    sums = []
    for step in range(steps):
        losses = objective(batches[step % len(batches)], TrainingStep(step, steps))
        total = torch.stack(list(losses.values())).sum()
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        sums.append(float(total.detach()))
    return sums


def test_every_stage_trains_its_own_parts_and_no_other(model: Interpolator, pools: tuple[Pool, Pool]) -> None:
    batches = [pools[0].batch([0, 1]), pools[1].batch([0, 1])]
    motion = WeightedLosses({"adjacent": 1, "flow": 1})
    frames = WeightedLosses({"l2": 1, "l1": 1, "edges": 1, "census": 1, "features": 0.1})
    diffusion = WeightedLosses({"theta": 1, "flow": 1, "imle": 1, "l2": 1}, {"imle": {"draws": 2}})
    stages = {
        "motion": (["trajectory"], lambda: DecodingObjective(model, motion)),
        "the paper's first": (["trajectory", "renderer"], lambda: DecodingObjective(model, frames)),
        "keyframes": (["denoiser"], lambda: DiffusionObjective(model, diffusion)),
        "refinement": (["renderer"], lambda: DecodingObjective(model, frames, predicted=True)),
    }
    for name, (parts, make) in stages.items():
        train_only(model, parts)
        objective = make()
        before = {key: value.clone() for key, value in model.state_dict().items()}
        own = {id(value) for part in parts for value in get_part(model, part).state_dict(keep_vars=True).values()}
        _fit(objective, batches[:1] if name == "motion" else batches, 2)  # film has no exact flow
        changed = {
            id(value) for key, value in model.state_dict(keep_vars=True).items() if not torch.equal(value, before[key])
        }
        assert _finite(model), name
        assert changed, name
        assert changed <= own, name


def test_training_motion_on_a_few_samples_lowers_its_loss(model: Interpolator, pools: tuple[Pool, Pool]) -> None:
    batch = pools[0].batch([0, 1])
    get_part(model, "autoencoder").calibrate(batch["frames"][:, 0])  # pyright: ignore
    train_only(model, ["trajectory"])
    objective = DecodingObjective(model, WeightedLosses({"adjacent": 1, "flow": 1}))

    def loss() -> float:
        with torch.no_grad():
            return float(torch.stack(list(objective(batch, TrainingStep(0, 1)).values())).sum())

    before = loss()
    _fit(objective, [batch], 24)
    assert loss() < 0.95 * before


def test_a_loss_without_its_input_is_left_out(model: Interpolator, pools: tuple[Pool, Pool]) -> None:
    train_only(model, ["renderer"])
    objective = DecodingObjective(model, WeightedLosses({"flow": 1, "l2": 2}))
    procedural, film = (objective(pool.batch([0]), TrainingStep(0, 10)) for pool in pools)
    assert procedural.keys() == {"flow", "l2"}
    assert film.keys() == {"l2"}  # real clips have no exact flow


def test_predicted_keyframes_depend_on_the_two_ends_only(model: Interpolator, pools: tuple[Pool, Pool]) -> None:
    batch, decoding = pools[0].batch([0, 1]), DecodingObjective(model, WeightedLosses({"l1": 1.0}), predicted=True)
    hidden = {**batch, "frames": batch["frames"].clone()}
    hidden["frames"][:, 1 : KNOTS - 1] = 0.5
    with torch.no_grad():
        plain, same = (
            decoding.predicted_keyframes(decoding.read_clip(each), TrainingStep(0, 1, seed=3))
            for each in (batch, hidden)
        )
    assert torch.equal(plain.latents, same.latents)
    assert plain.prior is not None
    assert plain.latents.shape[1] == KNOTS


def test_a_diffusion_stage_renders_frames_after_reconstruct_from(model: Interpolator, pools: tuple[Pool, Pool]) -> None:
    train_only(model, ["denoiser"])
    objective = DiffusionObjective(model, WeightedLosses({"theta": 1, "l2": 1}), reconstruct_from=0.5)
    batch = pools[1].batch([0])
    assert objective(batch, TrainingStep(4, 10)).keys() == {"theta"}
    assert objective(batch, TrainingStep(5, 10)).keys() == {"theta", "l2"}
    assert objective.losses.needs_any(Needs.FRAMES)


def test_sheets_show_inputs_and_results(model: Interpolator, pools: tuple[Pool, Pool]) -> None:
    batch = pools[0].batch([0, 1, 2])
    with torch.no_grad():
        objectives = [
            DecodingObjective(model, WeightedLosses({"l2": 1})),
            DiffusionObjective(model, WeightedLosses({"theta": 1})),
        ]
        sheets = [objective.draw_sheet(batch, TrainingStep(0, 1)) for objective in objectives]
        autoencoder = AutoencoderObjective(model, WeightedLosses({"l1": 1})).draw_sheet(batch, TrainingStep(0, 1))
    h, w = SIZE
    for sheet in sheets:
        assert sheet is not None
        assert sheet.shape == (4 * h, 6 * w, 3)  # two samples of two rows of six tiles
        first = (batch["frames"][0, 0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        assert np.array_equal(sheet[:h, :w], first)
        truth = (batch["frames"][1, KNOTS] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        assert np.array_equal(sheet[3 * h :, 5 * w :], truth)
    assert autoencoder is not None
    assert autoencoder.shape == (2 * h, 3 * w, 3)


def _tiny(folder: Path, out: Path, *more: str) -> list[str]:
    """Overrides that make every stage two steps on the small pools."""
    quick = ["engine.steps=2", "engine.warmup=1", "engine.device=cpu", "data.workers=0"]
    return [f"data.folder={folder}", f"out={out}", "data.batch=2", *quick, *more]


def test_a_whole_recipe_leaves_a_model_that_interpolates(
    folder: Path, pools: tuple[Pool, Pool], tmp_path: Path
) -> None:
    lines: list[str] = []
    overrides = _tiny(folder, tmp_path, "engine.sheet_every=2")
    assert run.train("rdvfi_s", overrides, report=lines.append)
    trained = Interpolator.from_files(bundled_files("rdvfi-s", tmp_path))
    assert trained.untrained_parts() == []
    frames = trained(torch.rand(1, 3, 64, 96), torch.rand(1, 3, 64, 96), [0.5])
    assert torch.isfinite(frames).all()
    stages = ["autoencoder", "coarse", "keyframes", "refinement", "synthesis"]
    for suffix in ("safetensors", "yaml", "csv"):
        found = {path.stem for path in tmp_path.glob(f"*.{suffix}")} - {"rdvfi-s"}
        assert sorted(found) == stages
    assert {path.name.split("-")[0] for path in (tmp_path / "sheets").iterdir()} == set(stages)
    lines.clear()
    assert run.train("rdvfi_s", overrides, report=lines.append)  # nothing is trained twice
    assert len([line for line in lines if "skipped, since" in line]) == len(stages)
    assert lines[-1] == f"      rdvfi interpolate IN OUT --model {tmp_path}"
    assert create_model(tmp_path).untrained_parts() == []  # what that command loads
    kept = load_file(tmp_path / "synthesis.safetensors")
    assert {key.split(".")[0] for key in kept} == {"renderer"}


def test_a_coarse_flow_that_learns_is_trained_by_its_recipe(
    folder: Path, pools: tuple[Pool, Pool], tmp_path: Path
) -> None:
    choice = "model.overrides=['coarse=matching','coarse.width=16','coarse.blocks=1']"
    lines: list[str] = []
    clips = ["data.source=pool", "data.kinds=[procedural]", "data.samples=[4]"]
    overrides = _tiny(folder, tmp_path, choice, *clips, "engine.steps=3")
    assert run.train("rdvfi_s/coarse", overrides, report=lines.append)
    kept = load_file(tmp_path / "coarse.safetensors")
    assert {key.split(".")[0] for key in kept} == {"coarse"}
    (stage,) = compose_stages("rdvfi_s/coarse", overrides)
    fresh, trained = (run.prepare_model(stage) for _ in range(2))
    load_parts(trained, tmp_path / "coarse.safetensors")
    changed = [
        name
        for (name, before), after in zip(fresh.named_parameters(), trained.parameters(), strict=True)
        if not torch.equal(before, after)
    ]
    assert all(name.startswith("generator.coarse.") for name in changed)
    assert "generator.coarse.sharpness" in changed  # matches learn, not the refinements alone
    columns = (tmp_path / "coarse.csv").read_text().splitlines()[0].split(",")
    assert {"flow", "matching"} <= set(columns)


@pytest.mark.parametrize(("letter", "network"), [("d", "transformer"), ("u", "unet")])
def test_the_papers_two_stages_train_the_large_models_at_toy_size(
    letter: str, network: str, folder: Path, pools: tuple[Pool, Pool], tmp_path: Path
) -> None:
    recipe = f"rdvfi_{letter}"
    common = _tiny(
        folder,
        tmp_path,
        "model.overrides=['backbone.size=toy']",
        "data.kinds=[film]",
        "data.samples=[4]",
        "losses.lpips=0",
        "losses.features=0.1",
        "engine.bfloat16=false",  # the CPU warns of layer norms that stay in float32
    )
    assert run.train(f"{recipe}/decoding", common, report=_silent)
    low_rank = [*common, "lora.rank=2", "lora.alpha=2", "engine.accumulate=1"]
    assert run.train(f"{recipe}/diffusion", low_rank, report=_silent)
    assert run.train(f"{recipe}/ship", common, report=_silent)
    shipped = Interpolator.from_pretrained(tmp_path / "model")
    assert shipped.untrained_parts() == ["backbone"]  # its autoencoder is as fresh as a toy's is
    (stage,) = compose_stages(f"{recipe}/decoding", common)
    fresh = run.prepare_model(stage)
    additions = load_file(tmp_path / "diffusion.lora.safetensors")
    layers = {key.rsplit(".lora_", 1)[0] for key in additions if ".lora_" in key}
    assert layers
    for model, part in ((shipped, "generator"), (fresh, "generator")):
        assert hasattr(getattr(model, part), network)
    old, new = (getattr(m.generator, network).state_dict() for m in (fresh, shipped))
    changed = {key.removesuffix(".weight") for key in old if not torch.equal(old[key], new[key])}
    # LoRA moved its layers and nothing else; those that read a zero embedding learn nothing.
    assert changed
    assert changed <= layers
    frames = shipped(torch.rand(1, 3, 64, 96), torch.rand(1, 3, 64, 96), [0.5])
    assert torch.isfinite(frames).all()


def test_a_machine_with_torch_timm_hydra_and_accelerate_alone_can_train(
    folder: Path, pools: tuple[Pool, Pool], tmp_path: Path
) -> None:
    """Samples that are there need no video, augmentation or type-checking library."""
    overrides = _tiny(folder, tmp_path, "after=[]", "engine.sheet_every=2")
    program = (
        "import sys\n"
        "for name in ('av', 'kornia', 'beartype', 'diffusers', 'matplotlib', 'skimage'):\n"
        "    sys.modules[name] = None\n"
        "from rdvfi.training import run\n"
        f"assert run.train('rdvfi_s1/motion', {overrides!r}, report=lambda line: None)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={"PATH": "", "OMP_NUM_THREADS": "1", "PYTHONPATH": os.environ.get("PYTHONPATH", "")},
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "motion.safetensors").exists()
    assert (tmp_path / "sheets/motion-000000002.png").exists()


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One clip of 20 frames, as a folder of images."""
    folder = tmp_path_factory.mktemp("clips") / "drive"
    folder.mkdir()
    wall = photographs.astronaut()
    for i in range(20):
        write_png(folder / f"{i:03d}.png", np.ascontiguousarray(wall[50:114, 3 * i : 3 * i + 96]))
    return folder.parent


def test_a_pause_is_that_of_the_whole_recipe(folder: Path, pools: tuple[Pool, Pool], tmp_path: Path) -> None:
    lines: list[str] = []
    overrides = _tiny(folder, tmp_path, "engine.pause_minutes=0")
    assert not run.train("rdvfi_s", overrides, report=lines.append)
    assert lines == ["autoencoder: paused; the same command resumes"]


def test_samples_are_generated_from_data_pictures_and_clips(
    folder: Path,
    clips: Path,
    model: Interpolator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rdvfi.data.samples.TEXTURE_SIZE", (128, 192))
    (tmp_path / "pictures").mkdir()
    write_png(tmp_path / "pictures" / "wall.png", photographs.coffee())
    train_only(model, ["trajectory", "renderer"])
    objective = DecodingObjective(model, WeightedLosses({"flow": 1, "l2": 1}))
    for source, place, kinds, flow in (
        ("moving", folder, "[procedural]", [True]),
        ("moving", tmp_path / "pictures", "[procedural,procedural]", [True, True]),
        ("clips", clips, "[procedural,film]", [False]),
    ):
        overrides = _tiny(place, tmp_path, f"data.source={source}", f"data.kinds={kinds}")
        overrides += ["data.samples=[1,1]"] * (len(flow) > 1 or source == "clips")
        overrides += ["data.size=[64,96]", "data.free=2", "after=[]"]
        (stage,) = compose_stages("rdvfi_s1/motion", overrides)
        feed = feeds.open_feed(stage.data, model, tmp_path, _silent)
        stream, later = feed.batches(0), feed.batches(1)
        for number, known in enumerate(flow):
            batch = next(stream)
            assert batch["frames"].shape == (2, KNOTS + 2, 3, 64, 96)
            found = objective(batch, TrainingStep(number, 4))
            assert ("flow" in found) == known, source
            assert all(bool(torch.isfinite(value)) for value in found.values())
        if source != "clips":
            again, first = next(later), feed.batches(0)
            next(first)
            assert torch.equal(again["frames"], next(first)["frames"])
    stage.data.kinds, stage.data.source = ["film"], SourceKind.moving
    with pytest.raises(ValueError, match="moving makes no samples of kind 'film'"):
        feeds.open_feed(stage.data, model, tmp_path, _silent)
    (tmp_path / "none").mkdir()
    stage.data.folder, stage.data.source = str(tmp_path / "none"), SourceKind.clips
    with pytest.raises((ValueError, FileNotFoundError), match="none"):
        feeds.open_feed(stage.data, model, tmp_path, _silent)


@pytest.mark.parametrize("layout", ["sep", "tri"])
def test_clips_without_knots_train_stages_that_predict_their_keyframes(
    layout: str, clips: Path, model: Interpolator, tmp_path: Path
) -> None:
    count = {"sep": 7, "tri": 3}[layout]
    for name in ("00001/0001", "00001/0002"):
        place = tmp_path / "sequences" / name
        place.mkdir(parents=True)
        for i in range(count):
            wall = photographs.astronaut()[50:114, 2 * i : 2 * i + 96]
            write_png(place / f"im{i + 1}.png", np.ascontiguousarray(wall))
    (tmp_path / f"{layout}_trainlist.txt").write_text("00001/0001\n00001/0002\n")
    train_only(model, ["renderer"])
    for source, folder in (("vimeo", tmp_path), ("clips", clips)):
        overrides = _tiny(folder, tmp_path, f"data.source={source}", "data.knots=false", "data.symmetries=true")
        overrides += ["data.size=[64,96]", "after=[]"]
        (stage,) = compose_stages("rdvfi_s/refinement", overrides)
        batch = next(feeds.open_feed(stage.data, model, tmp_path, _silent).batches(0))
        frames = count if source == "vimeo" else 2 + stage.data.free
        assert batch["frames"].shape == (2, frames, 3, 64, 96)
        terms = WeightedLosses({"l2": 1})
        terms_of = DecodingObjective(model, terms, predicted=True)(batch, TrainingStep(0, 4))
        terms_of["l2"].backward()
        assert any(bool(p.grad is not None and p.grad.any()) for p in model.renderer.parameters())
        with pytest.raises(ValueError, match="these clips have only their two ends"):
            DecodingObjective(model, terms)(batch, TrainingStep(0, 4))
    (tmp_path / f"{layout}_trainlist.txt").unlink()
    stage.data.source, stage.data.folder = SourceKind.vimeo, str(tmp_path)
    with pytest.raises(FileNotFoundError, match="is no Vimeo-90K set"):
        feeds.open_feed(stage.data, model, tmp_path, _silent)


def test_latents_of_another_encoder_are_recomputed(
    folder: Path, pools: tuple[Pool, Pool], model: Interpolator, tmp_path: Path
) -> None:
    (stage,) = compose_stages("rdvfi_s1/motion", _tiny(folder, tmp_path, "after=[]"))
    first = next(feeds.open_feed(stage.data, model, tmp_path, _silent).batches(0))
    (cache,) = tmp_path.glob("latents-*")
    train_only(model, ["autoencoder"])
    with torch.no_grad():
        get_part(model, "denoiser").get_parameter("answer.weight").add_(1.0)
    lines: list[str] = []
    feeds.open_feed(stage.data, model, tmp_path, lines.append)
    assert not lines  # the denoiser makes no latents of single frames
    with torch.no_grad():
        get_part(model, "autoencoder").get_buffer("mean").add_(1.0)
    again = next(feeds.open_feed(stage.data, model, tmp_path, lines.append).batches(0))
    assert "was made by another encoder" in lines[0]
    assert not cache.exists()
    assert torch.equal(first["frames"], again["frames"])
    moved = again["latents"] - first["latents"] + 1.0
    assert moved.abs().max() < 0.01  # half precision


def test_saved_parts_load_and_those_of_another_model_are_refused(model: Interpolator, tmp_path: Path) -> None:
    file = tmp_path / "stage.safetensors"
    with torch.no_grad():
        next(model.renderer.parameters()).fill_(3.0)
    save_parts(model, ["renderer"], file)
    with torch.no_grad():
        next(model.renderer.parameters()).zero_()
    load_parts(model, file)
    assert bool((next(model.renderer.parameters()) == 3.0).all())
    overrides = ["data.folder=x", "out=x", "after=[]", "model.overrides=['renderer.width=40']"]
    other = run.prepare_model(compose_stages("rdvfi_s1/motion", overrides)[0])
    with pytest.raises(ValueError, match=r"stage\.safetensors is of another model or stage"):
        load_parts(other, file)
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"stage\.safetensors is damaged"):
        load_parts(model, file)
    with pytest.raises(FileNotFoundError, match="the result of stage 'none'; train that stage"):
        load_parts(model, tmp_path / "none.safetensors")


@pytest.mark.parametrize("recipe", list_training_recipes())
def test_every_recipe_composes(recipe: str) -> None:
    for stage in compose_stages(recipe, ["data.folder=x", "out=y"]):
        assert stage.out == "y"
        assert stage.train or stage.kind is StageKind.ship


@pytest.mark.parametrize(
    ("recipe", "override", "message"),
    [
        ("rdvfi_t", "out=y", "no training recipe 'rdvfi_t'; did you mean 'rdvfi_"),
        ("mine.yaml", "out=y", "recipe 'mine.yaml' does not exist"),
        ("rdvfi_s", "losses.lpip=1", "'rdvfi_s/autoencoder'.*lpip"),
        ("rdvfi_s1/motion", "losses.flow=much", "'much'.*Float"),
        ("rdvfi_s1/motion", "engine.step=3", "no field engine.step; did you mean 'steps'"),
        ("rdvfi_s1/motion", "engine.steps=0", "engine.steps must be at least 1"),
        ("rdvfi_s1/motion", "kind=diffuse", "diffuse"),
        ("rdvfi_s1/motion", "losses.flow=-1", "losses.flow must not be negative"),
        ("rdvfi_s1/motion", "settings.imle.draws=2.5", "2.5"),
        ("rdvfi_s1/motion", "data.size=[64]", "data.size must be a height and a width"),
        ("rdvfi_s1/motion", "data.samples=[1,2]", "data.samples must give a number for each"),
        ("rdvfi_s/coarse", "settings.estimates.hidden=0.1", r"was replaced by settings\.estimates\.occluded"),
        ("rdvfi_s1/motion", "engine.tensorboard=true", r"was replaced by engine\.trackers=\[tensorboard\]"),
        ("rdvfi_s1/motion", "train=[backbone]", "the part 'backbone' of version 0.1.0 is called 'denoiser' now"),
        ("rdvfi_s1/motion", "hydra.run.dir=x", "an override must have the form field=value"),
        ("rdvfi_s1/motion", "train=[tail]", "no part 'tail' of a model"),
        ("rdvfi_s/coarse", "seed=1", "seed"),
        ("rdvfi_s/coarse", "model.overrides=['coarse=dis']", "the coarse .* nothing to train"),
    ],
)
def test_invalid_recipes_are_refused_before_training_starts(
    recipe: str, override: str, message: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    overrides = [f"data.folder={tmp_path}", f"out={out}", "after=[]", override]
    with pytest.raises(ValueError, match=message):
        run.train(recipe, overrides, report=_silent)
    assert not out.exists()


def test_user_defined_recipes_and_losses_compose(tmp_path: Path) -> None:
    from rdvfi.training.losses.loss_registry import Evidence, Loss, losses

    text = "defaults: [training_stage, _self_]\nstage: own\nkind: decoding\ntrain: [renderer]\n"
    file = tmp_path / "own.yaml"
    file.write_text(text + "losses: {own-loss: 0.3}\nsettings: {own_loss: {power: 3}}\n")
    overrides = ["data.folder=x", "out=y"]
    with pytest.raises(ValueError, match="own-loss"):
        compose_stages(str(file), overrides)
    file.write_text(text + "losses: {own_loss: 0.3}\nsettings: {own_loss: {power: 3}}\n")

    @losses.register("own-loss")
    class OwnLoss(Loss):
        needs = Needs.FRAMES

        def __init__(self, *, power: int = 2) -> None:
            super().__init__()
            self.power = power

        def forward(self, evidence: Evidence) -> torch.Tensor:
            raise NotImplementedError

    try:
        (stage,) = compose_stages(str(file), [*overrides, "settings.own_loss.power=5"])
        (part,) = WeightedLosses(stage.losses, stage.settings).parts.values()
        assert part.power == 5
    finally:
        losses.unregister("own-loss")
    file.write_text("hydra: {}\n")
    with pytest.raises(ValueError, match="without `hydra`"):
        compose_stages(str(file), overrides)


def test_missing_data_and_earlier_stages_are_named(folder: Path, tmp_path: Path) -> None:
    def refused(recipe: str, data: Path, message: str, *more: str) -> None:
        with pytest.raises(FileNotFoundError, match=message):
            run.train(recipe, _tiny(data, tmp_path / "out", *more), report=_silent)

    refused("rdvfi_s1/motion", folder, r"autoencoder\.safetensors is missing: .* train that stage")
    refused("rdvfi_s/synthesis", tmp_path, r"contains no film\.npy; make it with", "after=[]")
    refused("rdvfi_s1/motion", tmp_path, "holds no images .*; make pictures with rdvfi data build", "after=[]")
    refused("rdvfi_s", tmp_path / "nothing", "data.folder .*nothing does not exist")
    with pytest.raises(FileNotFoundError, match="contains no samples; make them"):
        Pool(tmp_path)
    with pytest.raises(ValueError, match="no samples of kind 'real'; expected one of"):
        build_pool(folder, tmp_path / "pool", "real", 1)


def test_clips_that_are_too_short_are_named(model: Interpolator, pools: tuple[Pool, Pool]) -> None:
    batch = pools[1].batch([0])
    short = {key: value[:, : KNOTS - 2] for key, value in batch.items() if key != "coarse"}
    with pytest.raises(ValueError, match="a clip needs 9 frames at the knots; got 7"):
        ClipBatch.of(short)
    knots = {key: value[:, :KNOTS] for key, value in batch.items() if key != "coarse"}
    objective = DecodingObjective(model, WeightedLosses({"l2": 1}))
    with pytest.raises(ValueError, match="no frames between the knots, so no frame can be rendered"):
        objective({**knots, "coarse": batch["coarse"]}, TrainingStep(0, 1))
    with pytest.raises(ValueError, match=r"needs \['times'\]; it has \['frames'\]"):
        ClipBatch.of({"frames": batch["frames"]})
    odd = {**batch, "frames": batch["frames"][..., :90]}
    with pytest.raises(ValueError, match="sides are multiples of 16; the clips are 64 high and 90"):
        objective(odd, TrainingStep(0, 1))


@pytest.mark.parametrize("every", [2, 4, 8])
def test_a_backbone_with_fewer_keyframes_uses_its_own_knots(pools: tuple[Pool, Pool], every: int) -> None:
    batch = pools[0].batch([0, 2])
    whole, clip = ClipBatch.of(batch), ClipBatch.of(batch, every)
    assert clip.fixed == 8 // every + 1
    assert torch.equal(clip.knot_frames, whole.knot_frames[:, ::every])
    assert torch.equal(clip.last, whole.last)
    for kept, known in zip(clip.knot_flows(), whole.knot_flows(), strict=True):
        assert torch.equal(kept, known[:, ::every])
    for step in range(4):  # free frames stay, with their times and motion
        here, there = clip.free_index(step), whole.free_index(step)
        assert torch.equal(clip.frames[:, here], whole.frames[:, there])
        assert torch.equal(clip.times[:, here], whole.times[:, there])
        assert clip.flows is not None
        assert whole.flows is not None
        assert torch.equal(clip.flows[:, here], whole.flows[:, there])
    with pytest.raises(ValueError, match=f"known between 9 knots; this backbone has {clip.fixed}: set losses"):
        clip.adjacent_flows()


@pytest.mark.parametrize("number", [1, 3])
def test_fewer_keyframes_are_trained_and_shown(pools: tuple[Pool, Pool], number: int) -> None:
    model, batch = build_model("rdvfi_s", f"backbone.num_keyframes={number}"), pools[0].batch([0, 2])
    objective = DiffusionObjective(model, WeightedLosses({"theta": 1, "flow": 1, "l2": 1}))
    assert all(loss.isfinite() for loss in objective(batch, TrainingStep(0, 1)).values())
    with torch.no_grad():
        sheet = objective.draw_sheet(batch, TrainingStep(0, 1))
    h, w = batch["frames"].shape[-2:]
    assert sheet is not None
    assert sheet.shape == (4 * h, 6 * w, 3)


def test_adjacent_flow_is_provided_only_where_it_is_known(model: Interpolator, pools: tuple[Pool, Pool]) -> None:
    few = build_model("rdvfi_s1", "backbone.num_keyframes=3")
    objective = DecodingObjective(few, WeightedLosses({"flow": 1}))
    assert set(objective(pools[0].batch([0, 2]), TrainingStep(0, 1))) == {"flow"}
    (stage,) = compose_stages("rdvfi_s1/motion", ["data.folder=x", "out=x", "after=[]"])
    assert Needs.ADJACENT in checks.provided_inputs(stage, model)
    assert Needs.ADJACENT not in checks.provided_inputs(stage, few)


def test_keyframes_between_the_knots_of_clips_cannot_be_trained() -> None:
    model = build_model("rdvfi_s", "backbone.num_keyframes=2")
    with pytest.raises(ValueError, match="clips have 9 evenly spaced knots; this backbone makes keyframes at"):
        DecodingObjective(model, WeightedLosses({"l2": 1}))


def test_an_incomplete_film_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "film.npy", np.zeros((10, 4, 4, 3), np.uint8))
    with pytest.raises(ValueError, match=r"has shape \(10, 4, 4, 3\); expected at least 12000"):
        Film(tmp_path / "film.npy")
    whole = (tmp_path / "film.npy").read_bytes()
    for damaged in (whole[:-20], whole[:7], b""):
        (tmp_path / "film.npy").write_bytes(damaged)
        with pytest.raises(ValueError, match="is damaged, delete it and build again"):
            Film(tmp_path / "film.npy")


def test_the_autoencoder_learns_and_is_calibrated(folder: Path, model: Interpolator, tmp_path: Path) -> None:
    pictures = load_pictures(folder, Film(folder / "film.npy"), frames=2)
    make = feeds.random_crops(lambda rng: pictures[rng.integers(len(pictures))], 64)
    stream = SampleStream(make, workers=0).batches(4, 1)
    train_only(model, ["autoencoder"])
    objective = AutoencoderObjective(model, WeightedLosses({"l1": 1, "edges": 1}))
    sums = _fit(objective, [next(stream) for _ in range(4)], 12)
    assert sums[-1] < sums[0]
    autoencoder = objective.autoencoder
    autoencoder.calibrate(torch.cat([next(stream)["frames"][:, 0] for _ in range(8)]))
    others = torch.cat([next(stream)["frames"][:, 0] for _ in range(4)])
    assert autoencoder.encode(others).std((0, 2, 3)).log().abs().max() < 0.5


def test_the_command_shows_the_stages(capsys: pytest.CaptureFixture[str]) -> None:
    from rdvfi_cli.main import main

    with pytest.raises(SystemExit):
        main(["train", "recipe=rdvfi_s1/motion", "data.folder=x", "out=y", "--show"])
    assert "stage: motion" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["train", "data.folder=x"])
    assert "give one recipe=NAME (recipes: rdvfi_d," in capsys.readouterr().err


def test_folders_are_left_alone_by_a_stage_that_cannot_start(folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    shutil.copy(folder / "photographs.npz", data)
    with pytest.raises(FileNotFoundError, match=r"contains no film\.npy"):
        run.train("rdvfi_s/synthesis", _tiny(data, tmp_path / "out", "after=[]"), report=_silent)
    assert [path.name for path in data.iterdir()] == ["photographs.npz"]
    assert not (tmp_path / "out").exists()

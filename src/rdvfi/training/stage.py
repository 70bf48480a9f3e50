"""Typed configuration of a training stage, from recipes and overrides."""

import dataclasses
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import MISSING, OmegaConf

from rdvfi.config import make_node
from rdvfi.training.engine.settings import EngineConfig
from rdvfi.training.losses.loss_registry import losses

_ENTRY_KEY = "_name_"
"""Key that `rdvfi.config.make_node` adds to every node; it is not a setting of the loss."""


class StageKind(Enum):
    """Kinds of stages."""

    autoencoder = "reconstruct single frames"
    coarse = "the generator's end-to-end flow, by known flow"
    decoding = "frames from true or predicted keyframes"
    diffusion = "keyframes from noise"
    ship = "write the finished model"


class SourceKind(Enum):
    """Sources of samples."""

    pool = "samples that are generated once and stored in data/pool"
    crops = "square crops of photographs and film, for the autoencoder"
    moving = "procedural scenes, generated during training from the pictures of a folder"
    clips = "a folder of videos, or of folders of frames"
    vimeo = "Vimeo-90K, septuplets or triplets: both ends and the frames between, without knots"
    moving_pairs = "procedural pairs for the coarse flow, generated during training"
    pairs = "pairs of pictures with known flow, for the coarse flow, stored in data/pool/pairs-KIND"


@dataclass
class ModelConfig:
    """The model of a stage.

    Attributes:
        recipe: Recipe of `rdvfi.build`.
        overrides: Overrides of the recipe.
        start: Saved model to start from: a folder, or the name of a model that ships; None for
            fresh weights. Without overrides the saved model is used as it is, whatever the recipe; with
            overrides the recipe's model takes the parts of it that fit.
        config_dir: Folder of user-defined configuration groups, for the overrides and for the
            ``defaults`` of the stage.
    """

    recipe: str = "rdvfi_s"
    overrides: list[str] = field(default_factory=list)
    start: str | None = None
    config_dir: str | None = None


@dataclass
class DataConfig:
    """The samples of a stage.

    Attributes:
        folder: Folder of ``rdvfi data build``, of clips, or of pictures.
        source: See `SourceKind`.
        kinds: ``procedural`` and ``film``, whose batches are interleaved; a kind that is named
            twice has two turns. Clips have no kinds.
        samples: Size of each pool that does not exist yet.
        size: Height and width of frames; existing pools keep theirs.
        free: Free frames of a sample that is generated or read during training.
        knots: Whether windows of clips have true frames at the nine knots; otherwise they have both
            ends and free frames, for stages with predicted keyframes.
        colours: Strength of the photometric augmentation of clips and pairs.
        batch: Samples per batch and process.
        seed: Seed of the samples and of their order.
        workers: Background processes that make samples.
        cache_latents: Encode the knots of a pool once.
        symmetries: Mirror, flip and reverse clips at random (`rdvfi.data.symmetries`).
        held_out: Fraction at the end of each clip that training does not use; the model is evaluated
            there before and after training, and the better one is kept.
        teacher: Teacher whose flows and mask are added to the film of a pool: ``rife``
            (`rdvfi.training.teacher`); None for no teacher.
    """

    folder: str = MISSING
    source: SourceKind = SourceKind.pool
    kinds: list[str] = field(default_factory=lambda: ["procedural", "film"])
    samples: list[int] = field(default_factory=lambda: [3000, 2000])
    size: list[int] = field(default_factory=lambda: [160, 256])
    free: int = 3
    knots: bool = True
    colours: float = 0.0
    batch: int = 4
    seed: int = 1
    workers: int = 1
    cache_latents: bool = True
    symmetries: bool = False
    held_out: float = 0.0
    teacher: str | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """``size`` as (height, width)."""
        return self.size[0], self.size[1]


@dataclass
class NoiseConfig:
    """Noise levels of a diffusion stage, from U(l, 1), where l rises from ``low`` to 1 over a fraction ``rise``."""

    low: float = 0.3
    rise: float = 0.6


@dataclass
class LoraConfig:
    """Low-rank updates of the layers whose names end in ``targets``, scaled by ``alpha / rank``.

    They are trained instead of the denoiser itself, unless ``rank`` is 0.
    """

    rank: int = 0
    alpha: float = 64.0
    targets: list[str] = field(default_factory=lambda: ["to_q", "to_k", "to_v", "to_out.0"])


@dataclass
class Stage:
    """A stage of training; also the schema of its recipe.

    Attributes:
        stage: Name of the stage and of its result files.
        kind: See `StageKind`.
        after: Stages whose results are loaded before training, in order.
        train: Parts that are trained (`rdvfi.training.model_parts`).
        predicted: Train a decoding stage on predicted keyframes.
        reconstruct_from: Fraction of a diffusion stage after which frames are rendered.
        fine_from: Fraction of a coarse stage after which the fine estimates of `matching` are trained.
        checkpointing: Recompute the denoiser's activations in the backward pass instead of storing them.
        shard: Shard the weights over all processes.
        bundle: For ``ship``: also write the two files of a model that ships, with this name.
        out: Output folder.
        model: The model.
        data: The samples.
        engine: Settings of the engine.
        noise: Noise levels of a diffusion stage.
        lora: Low-rank updates, trained instead of the denoiser itself.
        losses: Weights of losses by name.
        settings: Parameters of losses by name.
    """

    stage: str = MISSING
    kind: StageKind = MISSING
    after: list[str] = field(default_factory=list)
    train: list[str] = field(default_factory=list)
    predicted: bool = False
    reconstruct_from: float = 0.0
    fine_from: float = 0.0
    checkpointing: bool = False
    shard: bool = False
    bundle: str | None = None
    out: str = MISSING
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    losses: dict[str, float] = field(default_factory=dict)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)


def stage_schema() -> type[Stage]:
    """A dataclass like `Stage` with a typed field for each weight and each parameter of the registered losses."""
    weights = dataclasses.make_dataclass("Losses", [(_field_name(name), float, field(default=0.0)) for name in losses])
    nodes = {name: node for name in losses if (node := make_node(losses, name))}
    settings = dataclasses.make_dataclass(
        "LossSettings", [(_field_name(name), node, field(default_factory=node)) for name, node in nodes.items()]
    )
    typed = [(name, node, field(default_factory=node)) for name, node in (("losses", weights), ("settings", settings))]
    return dataclasses.make_dataclass("StageNode", typed, bases=(Stage,))


def stage_from_config(composed: Any) -> Stage:
    """The stage of a composed configuration, with losses by their registered names."""
    stage = OmegaConf.to_object(composed)
    assert isinstance(stage, Stage)
    names = {_field_name(name): name for name in losses}
    stage.settings = {
        names[name]: {key: value for key, value in vars(node).items() if key != _ENTRY_KEY}
        for name, node in vars(stage.settings).items()
    }
    stage.losses = {names[name]: float(weight) for name, weight in vars(stage.losses).items()}
    return stage


def _field_name(name: str) -> str:
    return name.replace("-", "_")

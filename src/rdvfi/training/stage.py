"""Typed configuration of a training stage, filled by recipes and changed by overrides."""

import dataclasses
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import MISSING, OmegaConf

from rdvfi.config import make_node
from rdvfi.training.engine.settings import EngineConfig
from rdvfi.training.losses.loss_registry import losses

_NAME = "_name_"
"""A field of loss settings that is not one: `rdvfi.config.make_node` adds it to every node."""


class Kind(Enum):
    """Kinds of stages."""

    autoencoder = "reconstruct single frames"
    coarse = "the generator's end-to-end flow, by known flow"
    decoding = "frames from true or predicted keyframes"
    diffusion = "keyframes from noise"
    ship = "write the finished model"


class SourceKind(Enum):
    """Where samples come from."""

    pool = "samples made once and kept: data/pool"
    crops = "squares of photographs and film, for the autoencoder"
    moving = "procedural scenes, made where training runs from the pictures of a folder"
    clips = "a folder of videos, or of folders of frames"
    vimeo = "Vimeo-90K, septuplets or triplets: both ends and what is between, without knots"
    moving_pairs = "procedural pairs for the coarse flow, made where training runs"
    pairs = "pairs of pictures with their motion, for the coarse flow: data/pool/pairs-KIND"


@dataclass
class ModelConfig:
    """Which model.

    Attributes:
        recipe: A recipe of `rdvfi.build`.
        overrides: Its overrides.
        start: A saved model's folder, or the name of one that ships, to start from; None starts
            from fresh weights. Without overrides it is taken whole, whatever the recipe; with them
            the recipe's model takes those of its parts that fit.
        config_dir: A folder with configuration groups of your own, for the overrides and for the
            stage's own ``defaults``.
    """

    recipe: str = "rdvfi_s"
    overrides: list[str] = field(default_factory=list)
    start: str | None = None
    config_dir: str | None = None


@dataclass
class DataConfig:
    """Which samples.

    Attributes:
        folder: Made by the data build; or a folder of clips, or of pictures.
        source: See `SourceKind`.
        kinds: ``procedural`` and ``film``, which take turns; clips have no kinds. One that is named
            twice has two turns.
        samples: Size of each pool that is yet to be made.
        size: Height and width of frames, where a pool is not there already; sides of crops.
        free: Frames of a sample between its knots, where it is made on the fly.
        knots: Whether windows of clips have true frames at the nine knots; otherwise they have both
            ends and free frames, of any number, for stages that predict their keyframes.
        colours: How far the colours of clips and of pairs are changed.
        batch: Samples per batch and process.
        seed: Of their order.
        workers: Processes that make them.
        cache_latents: Encode the knots of a pool once.
        symmetries: Mirror clips, turn them upside down and play them backwards at random
            (`rdvfi.data.symmetries`).
        held_out: Share at the end of each clip that training does not see; the model is measured there
            before and after, and the better one is kept.
        teacher: Whose flows and blend the film of a pool is to have, found once and kept with it:
            ``rife`` (`rdvfi.training.teacher`); None for no teacher.
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
    """Noise levels of a diffusion stage: from U(l, 1), ``l`` rising from ``low`` to 1.

    Attributes:
        low: Where it starts.
        rise: Share of training over which it rises.
    """

    low: float = 0.3
    rise: float = 0.6


@dataclass
class LoraConfig:
    """Train low-rank additions to linear layers instead of the denoiser itself.

    Attributes:
        rank: 0 trains the denoiser itself.
        alpha: Additions are scaled by ``alpha / rank``.
        targets: Ends of the names of the layers that get one.
    """

    rank: int = 0
    alpha: float = 64.0
    targets: list[str] = field(default_factory=lambda: ["to_q", "to_k", "to_v", "to_out.0"])


@dataclass
class Stage:
    """A stage of training; also the schema of its recipe.

    Attributes:
        stage: Its name, which names its result.
        kind: What it does.
        after: Stages whose results it starts from, in order.
        train: Parts that it trains (`rdvfi.training.model_parts`).
        predicted: A decoding stage on predicted keyframes.
        reconstruct_from: Share of a diffusion stage after which frames are rendered.
        fine_from: Share of a coarse stage after which the fine estimates of `matching` join in.
        checkpointing: Recompute the denoiser's activations instead of keeping them.
        shard: Share the weights out among processes.
        bundle: For ``ship``: write the pair of files of a model that ships, under this name.
        out: Folder of results.
        model: Which model.
        data: Which samples.
        engine: How to train.
        noise: Noise levels of a diffusion stage.
        lora: Low-rank additions instead of the denoiser itself.
        losses: Weights by name.
        settings: Parameters of losses by name.
    """

    stage: str = MISSING
    kind: Kind = MISSING
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


def stage_node() -> type[Stage]:
    """`Stage` with typed losses: weights and settings are those of the registered losses."""
    weights = dataclasses.make_dataclass("Losses", [(_field(name), float, field(default=0.0)) for name in losses])
    nodes = {name: node for name in losses if (node := make_node(losses, name))}
    settings = dataclasses.make_dataclass(
        "LossSettings", [(_field(name), node, field(default_factory=node)) for name, node in nodes.items()]
    )
    typed = [(name, node, field(default_factory=node)) for name, node in (("losses", weights), ("settings", settings))]
    return dataclasses.make_dataclass("StageNode", typed, bases=(Stage,))


def as_stage(composed: Any) -> Stage:
    """The stage of a composed configuration, with losses by their registered names."""
    stage = OmegaConf.to_object(composed)
    assert isinstance(stage, Stage)
    names = {_field(name): name for name in losses}
    stage.settings = {
        names[name]: {key: value for key, value in vars(given).items() if key != _NAME}
        for name, given in vars(stage.settings).items()
    }
    stage.losses = {names[name]: float(weight) for name, weight in vars(stage.losses).items()}
    return stage


def _field(name: str) -> str:
    return name.replace("-", "_")

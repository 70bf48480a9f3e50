"""Which trained weights are kept when components of a model are exchanged: one rule for all uses.

A model is made of *components*: its three stages, and what a registry made for the slots of these
(``trajectory.flow``, ``backbone.coarse``). Each owns the tensors below it that belong to no other;
a backbone's ``autoencoder`` and ``denoiser``, which are trained one by one, count as components too.

**A component may have the weights of another model if the component there, at the same place, has
tensors of the same names and shapes.** Registered names and plain values need not agree: a basis has
no weights, and the knots of a trajectory change none. What fits is kept exactly; what does not fit
stays as it is and counts as untrained.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from rdvfi.registry import registered_name

_NETWORKS = ("autoencoder", "denoiser")

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Fit:
    """Components of a model that can take the weights of another one, and those that cannot."""

    kept: tuple[str, ...]
    """Components that fit, as ``trajectory.flow``."""
    fresh: tuple[str, ...]
    """Components with weights that do not fit, or that the other model lacks."""
    tensors: tuple[str, ...]
    """Names of the tensors of those that are kept, below the stage."""
    untrained: bool
    """Whether one of those that are fresh has something to learn."""

    def __str__(self) -> str:
        return f"{', '.join(self.kept) or 'nothing'} kept; {', '.join(self.fresh) or 'nothing'} untrained"


def fit_stage(part: str, stage: nn.Module, given: Shapes, places: Iterable[str] = ()) -> Fit:
    """Compare a stage with the tensors of another model's.

    Args:
        part: What the stage is called: backbone, trajectory or renderer.
        stage: The stage.
        given: The other's tensors, by their names below its stage.
        places: Where the other has components, if that is known.
    """
    where = set(component_places(stage)) | set(places)
    state = stage.state_dict(keep_vars=True)
    networks = _network_tensors(stage) if part == "backbone" else {}
    own, theirs = ({_owner(name, where): {} for name in names} for names in (state, given))
    for name, tensor in state.items():
        own[_owner(name, where)][name] = tuple(tensor.shape)
    for name, shape in given.items():
        theirs[_owner(name, where)][name] = shape
    for network, names in networks.items():
        own[network] = _taken(own.get("", {}), network, names)
        theirs[network] = _taken(theirs.get("", {}), network, names)
    learned = learned_parameters(stage)
    kept = [place for place, tensors in own.items() if tensors and theirs.get(place) == tensors]
    fresh = [place for place, tensors in own.items() if tensors and place not in kept]
    return Fit(
        tuple(_called(part, place) for place in kept),
        tuple(_called(part, place) for place in fresh),
        tuple(name for place in kept for name in own[place]),
        any(id(state[name]) in learned for place in fresh for name in own[place]),
    )


def learned_parameters(stage: nn.Module) -> set[int]:
    """Identities of the parameters that do not belong to a component that comes trained from elsewhere."""
    ready = [module for module in stage.modules() if getattr(module, "pretrained", False)]
    known = {id(parameter) for module in ready for parameter in module.parameters()}
    return {id(parameter) for parameter in stage.parameters()} - known


def component_places(stage: nn.Module) -> list[str]:
    """Where in a stage there are components that a registry made."""
    return [name for name, module in stage.named_modules() if name and registered_name(module) is not None]


def shapes_of(stage: nn.Module) -> dict[str, tuple[int, ...]]:
    """The shapes of a stage's tensors by name."""
    return {name: tuple(tensor.shape) for name, tensor in stage.state_dict().items()}


def _owner(tensor: str, places: set[str]) -> str:
    """The place of the innermost component that a tensor belongs to; empty for the stage itself."""
    return max((place for place in places if tensor.startswith(f"{place}.")), key=len, default="")


def _network_tensors(backbone: nn.Module) -> dict[str, list[str]]:
    """Names of the tensors of a backbone's own networks; a network may have a second name there."""
    state: dict[str, Tensor] = backbone.state_dict(keep_vars=True)
    found = {}
    for name in _NETWORKS:
        network = getattr(backbone, name, None)
        if isinstance(network, nn.Module):
            held = {id(tensor) for tensor in network.state_dict(keep_vars=True).values()}
            found[name] = [key for key, tensor in state.items() if id(tensor) in held]
    return found


def _taken(tensors: dict[str, tuple[int, ...]], network: str, names: list[str]) -> dict[str, tuple[int, ...]]:
    """The tensors of a network, taken out of those of its stage."""
    found = [name for name in tensors if name in names or name.startswith(f"{network}.")]
    return {name: tensors.pop(name) for name in found}


def _called(part: str, place: str) -> str:
    return f"{part}.{place}" if place else part

"""Which trained weights are kept when components of a model are exchanged: one rule for all uses.

A model consists of *components*: its three stages, and the registered components in their slots
(``trajectory.flow``, ``backbone.coarse``). Each owns the tensors below it that belong to no other component;
the ``autoencoder`` and ``denoiser`` of a backbone, which are trained separately, count as components too.

**A component takes the weights of another model if the component there, under the same name, has
tensors of the same names and shapes.** Registered names and plain values may differ: a basis has
no weights, and the knots of a trajectory do not affect them. Weights that fit are kept exactly; components whose
weights do not fit are unchanged and count as untrained.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from rdvfi.registry import registered_name

_NETWORKS = ("autoencoder", "denoiser")

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Fit:
    """Components of a stage that can take the weights of another model, and those that cannot."""

    kept: tuple[str, ...]
    """Components whose weights fit, by names such as ``trajectory.flow``."""
    fresh: tuple[str, ...]
    """Components whose weights do not fit, or are missing in the other model."""
    tensors: tuple[str, ...]
    """Names of the tensors of the kept components, below the stage."""
    untrained: bool
    """Whether a fresh component has learned parameters."""

    def __str__(self) -> str:
        return f"{', '.join(self.kept) or 'nothing'} kept; {', '.join(self.fresh) or 'nothing'} untrained"


def fit_stage(part: str, stage: nn.Module, other: Shapes, other_components: Iterable[str] = ()) -> Fit:
    """Compare a stage with the tensors, and the components if they are known, of the same stage of another model."""
    components = {*component_names(stage), *other_components}
    state = stage.state_dict(keep_vars=True)
    own = _group_by_component(shapes_of(stage), components)
    theirs = _group_by_component(other, components)
    for network, names in (_network_tensors(stage) if part == "backbone" else {}).items():
        own[network] = _split_off(own.get("", {}), network, names)
        theirs[network] = _split_off(theirs.get("", {}), network, names)
    learned = learned_parameters(stage)
    kept = [name for name, tensors in own.items() if tensors and theirs.get(name) == tensors]
    fresh = [name for name, tensors in own.items() if tensors and name not in kept]
    return Fit(
        tuple(_full_name(part, name) for name in kept),
        tuple(_full_name(part, name) for name in fresh),
        tuple(tensor for name in kept for tensor in own[name]),
        any(id(state[tensor]) in learned for name in fresh for tensor in own[name]),
    )


def learned_parameters(stage: nn.Module) -> set[int]:
    """Identities (`id`) of the parameters of a stage, without those of components with published weights."""
    modules = [module for module in stage.modules() if getattr(module, "pretrained", False)]
    pretrained = {id(parameter) for module in modules for parameter in module.parameters()}
    return {id(parameter) for parameter in stage.parameters()} - pretrained


def component_names(stage: nn.Module) -> list[str]:
    """Names of the registered components in the slots of a stage."""
    return [name for name, module in stage.named_modules() if name and registered_name(module) is not None]


def shapes_of(stage: nn.Module) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of a stage by name."""
    return {name: tuple(tensor.shape) for name, tensor in stage.state_dict().items()}


def _group_by_component(shapes: Shapes, components: set[str]) -> dict[str, dict[str, tuple[int, ...]]]:
    """Shapes by the innermost component that owns the tensor; the stage itself has the empty name."""
    groups: dict[str, dict[str, tuple[int, ...]]] = {}
    for tensor, shape in shapes.items():
        owner = max((name for name in components if tensor.startswith(f"{name}.")), key=len, default="")
        groups.setdefault(owner, {})[tensor] = shape
    return groups


def _network_tensors(backbone: nn.Module) -> dict[str, list[str]]:
    """Names of the tensors of each network of a backbone, which may be registered under another name too."""
    state: dict[str, Tensor] = backbone.state_dict(keep_vars=True)
    names = {}
    for network in _NETWORKS:
        module = getattr(backbone, network, None)
        if isinstance(module, nn.Module):
            identities = {id(tensor) for tensor in module.state_dict(keep_vars=True).values()}
            names[network] = [name for name, tensor in state.items() if id(tensor) in identities]
    return names


def _split_off(tensors: dict[str, tuple[int, ...]], network: str, names: list[str]) -> dict[str, tuple[int, ...]]:
    """Remove the tensors of a network from those of its stage, and return them."""
    own = [name for name in tensors if name in names or name.startswith(f"{network}.")]
    return {name: tensors.pop(name) for name in own}


def _full_name(part: str, component: str) -> str:
    return f"{part}.{component}" if component else part

"""Methods by name: the baselines, external programs, and every model that `rdvfi.create_model` knows.

``blend``, ``dis``, ``dis-<width>``, ``minterpolate`` (FFmpeg's) and ``rife`` are baselines; ``wan-50``,
``wan-1`` and ``gi`` are video generators (`rdvfi.evaluation.generative_methods`), with other weights
as ``wan-50:SOURCE`` and ``gi:FOLDER``; ``<method>+blur<sigma>`` is any method with its frames blurred;
``name=COMMAND``, ``name=FOLDER`` and ``name@FOLDER`` are external programs
(`rdvfi.evaluation.external`); everything else is the name of a model, a saved folder or a hub id.
"""

import copy
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from rdvfi.evaluation.baselines import BlurredMethod, CrossFade, DISWarp
from rdvfi.evaluation.external import ExternalCommand, command_templates, create_external_method
from rdvfi.evaluation.method import Method, UnavailableMethod
from rdvfi.evaluation.method_adapters import ModelMethod
from rdvfi.evaluation.rife import RIFE
from rdvfi.interpolator import Interpolator
from rdvfi.models import create_model, list_models
from rdvfi.registry import did_you_mean

BASELINES = ("blend", "dis", "dis-448", "minterpolate", "rife", "wan-50", "wan-1", "gi")
"""Names of the baselines; ``dis-448`` stands for any width."""

_BLURRED_NAME = re.compile(r"(?P<method>.+)\+blur(?P<sigma>\d+(\.\d+)?)")
_REDUCED_DIS_NAME = re.compile(r"dis-(?P<width>\d+)")
_GENERATOR_NAME = re.compile(r"(?P<kind>wan-50|wan-1|gi)(:(?P<source>.+))?")
_MIN_DIS_WIDTH = 32

MethodLike = str | Method | Interpolator
"""The name of a method, a method, or a model."""
Models = Sequence[MethodLike] | Mapping[str, MethodLike]
"""The methods to compare; the keys of a mapping are their names in the report."""


def create_method(name: str, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> Method:
    """Create the method of this name.

    Args:
        name: As described in this module's docstring.
        device: Device of the networks; OpenCV's flow is always computed on the CPU.
        dtype: Data type of the models of this library; RIFE computes in float32.

    Raises:
        ValueError: If there is no such method.
        ImportError: If it needs a package that is not installed.
    """
    if blurred := _BLURRED_NAME.fullmatch(name):
        inner = create_method(blurred["method"], device=device, dtype=dtype)
        return BlurredMethod(inner, float(blurred["sigma"]))
    if name == "blend":
        return CrossFade()
    if name == "dis":
        return DISWarp()
    if reduced := _REDUCED_DIS_NAME.fullmatch(name):
        width = int(reduced["width"])
        if width < _MIN_DIS_WIDTH:
            raise ValueError(f"{name} computes flow at a width of {width} pixels; expected at least {_MIN_DIS_WIDTH}")
        return DISWarp(width=width)
    if name == "rife":
        return RIFE(device=device)
    if name == "minterpolate":
        return ExternalCommand(name, command_templates()[name])
    if generator := _GENERATOR_NAME.fullmatch(name):
        return _load_generator(generator["kind"], generator["source"] or "", torch.device(device), dtype)
    if "=" in name or "@" in name:
        return create_external_method(name)
    _check_model_name(name)
    return ModelMethod(create_model(name, device=device, dtype=dtype), name=name)


def _load_generator(kind: str, source: str, device: torch.device, dtype: torch.dtype) -> Method:
    from rdvfi.evaluation import generative_methods as generative

    if kind == "gi":
        return generative.load_inbetweening(source, device=device, dtype=dtype)
    return generative.load_wan(
        source or generative.WAN_MODEL, steps=int(kind.removeprefix("wan-")), device=device, dtype=dtype
    )


def create_methods(
    models: Models, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> list[Method]:
    """Create methods from names, methods and models. A model object is named by its key in a mapping, else 'model'.

    A method that lacks a package or its weights becomes an `UnavailableMethod`; an unknown name raises ValueError.
    """
    if isinstance(models, Mapping):
        methods = [copy.copy(method) for method in create_methods(list(models.values()), device=device, dtype=dtype)]
        for name, method in zip(models, methods, strict=True):
            method.name = name
        return methods
    methods: list[Method] = []
    for model in models:
        if isinstance(model, Method):
            methods.append(model)
        elif isinstance(model, Interpolator):
            methods.append(ModelMethod(model, name="model"))
        else:
            try:
                methods.append(create_method(model, device=device, dtype=dtype))
            except (ImportError, OSError) as error:
                methods.append(UnavailableMethod(model, error))
    return methods


def _check_model_name(name: str) -> None:
    """Raise ValueError unless the name is that of a bundled model, a folder, or an owner/name on the hub."""
    names = [*BASELINES, *list_models()]
    if "/" in name or name.replace("_", "-") in list_models() or Path(name).is_dir():
        return
    raise ValueError(f"no method or model {name!r}{did_you_mean(name, names)} (known: {', '.join(names)})")

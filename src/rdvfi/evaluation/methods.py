"""Methods by name: the baselines, and every model that `rdvfi.create_model` knows.

``blend``, ``dis``, ``dis-<width>``, ``minterpolate`` (FFmpeg's) and ``rife`` are baselines; ``wan-50``,
``wan-1`` and ``gi`` are video generators (`rdvfi.evaluation.generative_methods`), with weights of your own
as ``wan-50:SOURCE`` and ``gi:FOLDER``; ``<method>+blur<sigma>`` is any method with its frames blurred;
``name=COMMAND``, ``name=FOLDER`` and ``name@FOLDER`` are programs of others
(`rdvfi.evaluation.external`); everything else names a model, a saved folder or a hub id.
"""

import copy
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

import torch

from rdvfi.evaluation.baselines import Blurred, CrossFade, DISWarp, Method, Unavailable
from rdvfi.evaluation.external import ExternalCommand, external_method, templates
from rdvfi.evaluation.rife import RIFE
from rdvfi.geometry import choose_motion_size, resize_flow
from rdvfi.interfaces import FlowGrid
from rdvfi.interpolator import Interpolator
from rdvfi.models import create_model, list_models
from rdvfi.types import Flows, Image, Times, Video

BASELINES = ("blend", "dis", "dis-448", "minterpolate", "rife", "wan-50", "wan-1", "gi")
"""Names of the baselines; ``dis-448`` stands for any width."""

_BLURRED = re.compile(r"(?P<method>.+)\+blur(?P<sigma>\d+(\.\d+)?)")
_REDUCED_DIS = re.compile(r"dis-(?P<width>\d+)")
_GENERATOR = re.compile(r"(?P<kind>wan-50|wan-1|gi)(:(?P<source>.+))?")
_NARROWEST = 32


Compared = str | Method | Interpolator
"""A method by name, or a method or model itself."""
Models = Sequence[Compared] | Mapping[str, Compared]
"""What is compared; the keys of a mapping are what it is called in the report."""


class ModelMethod(Method):
    """One of our models: motion is estimated once per pair, then all frames are drawn."""

    def __init__(self, model: Interpolator, *, name: str) -> None:
        self._model = model
        self.name = name

    @property
    def model(self) -> Interpolator:
        return self._model

    @torch.inference_mode()
    def __call__(self, img0: Image, img1: Image, times: Times) -> Video:
        motion = self.model.estimate(img0, img1)
        return self.model.render(img0, img1, motion, times)

    @torch.inference_mode()
    def flows(self, img0: Image, img1: Image, times: Times) -> tuple[Flows, Flows] | None:
        """The trajectory at ``times``, enlarged to the images; None if it is on the SOURCE grid."""
        trajectory = self.model.estimate(img0, img1).trajectory
        if trajectory.grid is not FlowGrid.TARGET:
            return None
        h, w = img0.shape[-2:]
        multiple = self.model.generator.size_multiple
        padded = choose_motion_size(h, w, area=self.model.motion_area, multiple=multiple).padded
        first, last = (
            resize_flow(flows[0].float(), padded)[None, ..., :h, :w] for flows in trajectory.at(times.to(img0.device))
        )
        return first, last


def create_method(name: str, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> Method:
    """The method of this name, ready to run.

    Args:
        name: See the head of this module.
        device: Where networks run; OpenCV's flow is always computed on the CPU.
        dtype: Type that our models compute in; RIFE is float32.

    Raises:
        ValueError: If there is no such method.
        ImportError: If it needs a package that is not installed.
    """
    if blurred := _BLURRED.fullmatch(name):
        inner = create_method(blurred["method"], device=device, dtype=dtype)
        return Blurred(inner, float(blurred["sigma"]))
    if name == "blend":
        return CrossFade()
    if name == "dis":
        return DISWarp()
    if reduced := _REDUCED_DIS.fullmatch(name):
        width = int(reduced["width"])
        if width < _NARROWEST:
            raise ValueError(f"{name} finds flow at {width} pixels of width; use {_NARROWEST} on")
        return DISWarp(width=width)
    if name == "rife":
        return RIFE(device=device)
    if name == "minterpolate":
        return ExternalCommand(name, templates()[name])
    if generator := _GENERATOR.fullmatch(name):
        return _generator(generator["kind"], generator["source"] or "", torch.device(device), dtype)
    if "=" in name or "@" in name:
        return external_method(name)
    _check_model_name(name)
    return ModelMethod(create_model(name, device=device, dtype=dtype), name=name)


def _generator(kind: str, source: str, device: torch.device, dtype: torch.dtype) -> Method:
    from rdvfi.evaluation import generative_methods as generative

    if kind == "gi":
        return generative.load_inbetweening(source, device=device, dtype=dtype)
    return generative.load_wan(
        source or generative.WAN, steps=int(kind.removeprefix("wan-")), device=device, dtype=dtype
    )


def create_methods(
    models: Models, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> list[Method]:
    """Methods from names, methods, and models; a model given as an object is named 'model', or by its key.

    A method that lacks a package or its weights becomes an `Unavailable` one, and the others go on.

    Raises:
        ValueError: If there is no method of some name.
    """
    if isinstance(models, Mapping):
        made = create_methods(list(models.values()), device=device, dtype=dtype)
        methods = [copy.copy(method) for method in made]
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
            methods.append(_created(model, device, dtype))
    return methods


def _created(name: str, device: str | torch.device, dtype: torch.dtype) -> Method:
    try:
        return create_method(name, device=device, dtype=dtype)
    except (ImportError, OSError) as error:
        return Unavailable(name, error)


def _check_model_name(name: str) -> None:
    """A name that is no baseline is a bundled model, a folder, or an owner/name on the hub."""
    names = [*BASELINES, *list_models()]
    if "/" in name or name.replace("_", "-") in list_models() or Path(name).is_dir():
        return
    close = get_close_matches(name, names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"no method or model {name!r}{hint} (known: {', '.join(names)})")

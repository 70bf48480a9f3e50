"""The model card (``README.md``) of a saved model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

CARD_NAME = "README.md"
GENERATED_MARK = "<!-- written by rdvfi save_pretrained -->"
"""A card with this line was generated and may be overwritten; one without it was written by the user."""


def is_generated_card(path: Path) -> bool:
    """Whether a card was generated here, and not written by a user."""
    return GENERATED_MARK in path.read_text(encoding="utf-8", errors="replace")


def model_card(
    parts: Mapping[str, Mapping[str, Any]], states: Mapping[str, str], *, motion_area: int, parameter_count: int
) -> str:
    """The text of a card: specification and state of each part, and the questions that its author has to answer."""
    rows = "\n".join(f"| {part} | `{format_specification(spec)}` | {states[part]} |" for part, spec in parts.items())
    return f"""{_header()}
# A model of video frame interpolation

{parameter_count:,} weights; motion is estimated on frames of about {motion_area:,} pixels.

| part | made from | weights |
|---|---|---|
{rows}

{_USE}
## To be filled in

* **Training data**: what it was trained on, and what was held out.
* **Licence**: the licence of the weights, also as `license:` in the first lines of this file.
* **Results**: `rdvfi evaluate` on which clips, at which gaps, compared with which other models.
* **Limits**: where it fails; `rdvfi evaluate laboratory-determined` finds some cases.
"""


def shipped_card(text: str, licence: str) -> str:
    """The card of a model that ships with rdvfi, with the metadata header of the hub."""
    title, _, rest = text.partition("\n")
    return f"{_header(licence)}\n{title}\n\n{_USE}{rest}"


_USE = """```python
import rdvfi  # pip install rdvfi

model = rdvfi.create_model("THIS FOLDER OR HUB ID")
frames = model(img0, img1, timesteps=[0.25, 0.5, 0.75])  # (B, T, 3, H, W)
```

```sh
rdvfi interpolate in.mp4 out.mp4 --multiplier 4 --model "THIS FOLDER OR HUB ID"
```
"""


def _header(licence: str | None = None) -> str:
    stated = f"license: {licence}\n" if licence else ""
    return f"""---
{stated}library_name: rdvfi
pipeline_tag: video-to-video
tags: [video-frame-interpolation, optical-flow, diffusion]
---
{GENERATED_MARK}
"""


def format_specification(spec: Mapping[str, Any]) -> str:
    """A specification on one line: ``iterative(flow=local(width=32), width=48)``."""
    values = (f"{key}={format_specification(v) if isinstance(v, Mapping) else v}" for key, v in spec["config"].items())
    return f"{spec['name']}({', '.join(values)})"

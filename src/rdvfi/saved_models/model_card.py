"""The model card (``README.md``) of a saved model."""

from collections.abc import Mapping
from typing import Any

CARD_NAME = "README.md"
MARK = "<!-- written by rdvfi save_pretrained -->"
"""A card with it is ours and may be written again; one without it belongs to somebody."""


def card(parts: Mapping[str, Mapping[str, Any]], trained: Mapping[str, str], *, motion_area: int, weights: int) -> str:
    """The text of a card: what is known of the model, and the questions that its maker has to answer."""
    rows = "\n".join(f"| {part} | `{spelled(spec)}` | {trained[part]} |" for part, spec in parts.items())
    return f"""{_header()}
# A model of video frame interpolation

{weights:,} weights; motion is estimated on frames of about {motion_area:,} pixels.

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
    """The card of a model that ships with rdvfi, with the lines that the hub reads."""
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
{MARK}
"""


def spelled(spec: Mapping[str, Any]) -> str:
    """A specification on one line: ``iterative(flow=local(width=32), width=48)``."""
    values = (f"{key}={spelled(v) if isinstance(v, Mapping) else v}" for key, v in spec["config"].items())
    return f"{spec['name']}({', '.join(values)})"

"""The card of a saved model: a page for people, and the lines that the Hugging Face hub reads."""

from collections.abc import Mapping
from typing import Any

CARD_NAME = "README.md"
MARK = "<!-- written by rdvfi save_pretrained -->"
"""A card with it is ours and may be written again; one without it belongs to somebody."""


def card(parts: Mapping[str, Mapping[str, Any]], trained: Mapping[str, str], *, motion_area: int, weights: int) -> str:
    """The text of a card.

    Args:
        parts: Specification of each part.
        trained: What is known of each part's weights.
        motion_area: Pixels of the small frames.
        weights: How many there are.
    """
    rows = "\n".join(f"| {part} | `{_spelled(spec)}` | {trained[part]} |" for part, spec in parts.items())
    return f"""---
library_name: rdvfi
pipeline_tag: video-to-video
tags: [video-frame-interpolation, optical-flow, diffusion]
---
{MARK}

# A model of video frame interpolation

{weights:,} weights; motion is estimated on frames of about {motion_area:,} pixels.

| part | made from | weights |
|---|---|---|
{rows}

```python
import rdvfi

model = rdvfi.create_model("THIS FOLDER OR HUB ID")
frames = model(img0, img1, timesteps=[0.25, 0.5, 0.75])  # (B, T, 3, H, W)
```

Say here what it was trained on, under which licence the weights are, and how it was measured
(`rdvfi evaluate`).
"""


def _spelled(spec: Mapping[str, Any]) -> str:
    """A specification on one line: ``iterative(flow=local(width=32), width=48)``."""
    values = (f"{key}={_spelled(v) if isinstance(v, Mapping) else v}" for key, v in spec["config"].items())
    return f"{spec['name']}({', '.join(values)})"

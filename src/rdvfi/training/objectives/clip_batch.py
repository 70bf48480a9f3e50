"""A batch of clips, split into end frames, intermediate frames and motion.

Sources return tensors by name (`rdvfi.data.sources`); objectives read them through `ClipBatch`, which separates
fixed frames (at the knots) from free ones and converts the units of flows. Clips with few frames, such as those of
Vimeo-90K, have only their two ends as fixed frames, which suffices for stages with predicted keyframes.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.data.pool import FLOW_STRIDE
from rdvfi.data.sources import ENDS_ONLY
from rdvfi.data.synthetic.procedural_source import KNOTS
from rdvfi.geometry import resize_flow
from rdvfi.training.objectives.objective import Batch


@dataclass(frozen=True, eq=False)
class ClipBatch:
    """Fixed frames (the knots, or with ``ends_only`` the two ends), then free frames, and their motion if it is known.

    ``flows`` are exact, from every frame to the first, the last, the previous and the next knot, in latent pixels;
    ``visible`` is the visibility of the points there. ``coarse`` is the end-to-end flow in both directions, in pixels
    of the frames. ``teacher`` are a teacher's flows from the free frames to both ends, in pixels of their own grid,
    and ``teacher_mask`` its blending weight of the first frame.
    """

    frames: Float[Tensor, "b t 3 h w"]
    times: Float[Tensor, "b t"]
    flows: Float[Tensor, "b t 4 2 hz wz"] | None = None
    visible: Float[Tensor, "b t 4 hz wz"] | None = None
    coarse: Float[Tensor, "b 2 2 h w"] | None = None
    latents: Float[Tensor, "b k c hz wz"] | None = None
    teacher: Float[Tensor, "b f 2 2 ht wt"] | None = None
    teacher_mask: Float[Tensor, "b f 1 ht wt"] | None = None
    fixed: int = KNOTS
    ends_only: bool = False

    @classmethod
    def of(cls, batch: Batch, knot_stride: int = 1) -> "ClipBatch":
        """Read a batch.

        Args:
            batch: Has frames at `KNOTS` knots (or both ends), then at free times.
            knot_stride: Distance, in knots, of the backbone's keyframes; other knots are left out.

        Raises:
            ValueError: If the batch lacks what a clip needs.
        """
        missing = {"frames", "times"} - batch.keys()
        if missing:
            raise ValueError(f"a batch of clips needs {sorted(missing)}; it has {sorted(batch)}")
        frames = batch["frames"]
        fixed = 2 if ENDS_ONLY in batch else KNOTS
        if frames.shape[1] < fixed:
            raise ValueError(f"a clip needs {KNOTS} frames at the knots; got {frames.shape[1]}")
        flows, coarse = batch.get("flows"), batch.get("coarse")
        h, w = frames.shape[-2:]
        if coarse is not None and coarse.shape[-2:] != (h, w):
            coarse = resize_flow(coarse.flatten(0, 1), (h, w)).unflatten(0, (-1, 2))
        clip = cls(
            frames,
            batch["times"],
            flows=None if flows is None else flows.float() / FLOW_STRIDE,
            visible=batch["visible"].float() if "visible" in batch else None,
            coarse=coarse,
            latents=batch.get("latents"),
            teacher=batch.get("teacher"),
            teacher_mask=batch.get("teacher_mask"),
            fixed=fixed,
            ends_only=ENDS_ONLY in batch,
        )
        return clip if knot_stride == 1 or clip.ends_only else clip._select_knots(knot_stride)

    def _select_knots(self, stride: int) -> "ClipBatch":
        def select(x: Tensor) -> Tensor:
            return torch.cat((x[:, :KNOTS:stride], x[:, KNOTS:]), dim=1)

        return replace(
            self,
            frames=select(self.frames),
            times=select(self.times),
            flows=None if self.flows is None else select(self.flows),
            visible=None if self.visible is None else select(self.visible),
            latents=None if self.latents is None else self.latents[:, ::stride],
            fixed=(KNOTS - 1) // stride + 1,
        )

    @property
    def first(self) -> Float[Tensor, "b 3 h w"]:
        """The first frames."""
        return self.frames[:, 0]

    @property
    def last(self) -> Float[Tensor, "b 3 h w"]:
        """The last frames."""
        return self.frames[:, self.fixed - 1]

    @property
    def knot_frames(self) -> Float[Tensor, "b k 3 h w"]:
        """The frames at the knots; raises ValueError if the clips have only their ends."""
        if self.ends_only:
            raise ValueError(
                f"this stage needs true frames at {KNOTS} knots, and these clips have only their two ends; "
                "they can train stages with predicted keyframes (predicted=true)"
            )
        return self.frames[:, : self.fixed]

    def free_index(self, step: int) -> int:
        """Index of a free frame, which changes with every step; raises ValueError if there are none."""
        count = self.frames.shape[1] - self.fixed
        if count < 1:
            raise ValueError(
                "these clips have no frames between the knots, so no frame can be rendered; make them with free times"
            )
        return self.fixed + step % count

    def teacher_maps(self, index: int) -> tuple[Float[Tensor, "b 2 2 ht wt"] | None, Float[Tensor, "b 1 ht wt"] | None]:
        """A teacher's flows and mask at the free frame ``index``, or None."""
        free = index - self.fixed
        return (
            None if self.teacher is None else self.teacher[:, free],
            None if self.teacher_mask is None else self.teacher_mask[:, free],
        )

    def knot_flows(self) -> tuple[Tensor, Tensor]:
        """Exact flows from the knots to both ends (b, k, 2, 2, hz, wz), and their visibility."""
        assert self.flows is not None
        assert self.visible is not None
        return self.flows[:, : self.fixed, :2], self.visible[:, : self.fixed, :2]

    def adjacent_flows(self) -> tuple[Tensor, Tensor]:
        """Exact flows to the previous knot, and to the next knot in reversed order: (2b, k - 1, ...).

        Raises:
            ValueError: If knots were left out: exact flow is known between neighbouring knots only.
        """
        if self.fixed != KNOTS:
            raise ValueError(
                f"exact flow of adjacent frames is known between {KNOTS} knots; this backbone has {self.fixed}: "
                "set losses.adjacent=0"
            )
        assert self.flows is not None
        assert self.visible is not None
        to_previous, to_next = slice(1, KNOTS), slice(0, KNOTS - 1)
        flows = torch.cat((self.flows[:, to_previous, 2], self.flows[:, to_next, 3].flip(1)))
        visible = torch.cat((self.visible[:, to_previous, 2], self.visible[:, to_next, 3].flip(1)))
        return flows, visible

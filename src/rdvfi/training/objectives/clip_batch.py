"""A batch of clips, split into end frames, intermediate frames and motion.

Sources give named tensors (`rdvfi.data.sources`); objectives read them through `ClipBatch`, which knows
that the first frames are the knots and the others the free times, and in which units flows come.
Clips of few frames, such as those of Vimeo-90K, have their two ends in the place of the knots: stages
whose keyframes the generator predicts need no more.
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
    """Frames at the knots and at free times, with their motion, if known.

    ``flows`` lead from every frame to the first, the last, the knot before and the knot after, in
    latent pixels; ``visible`` says where the point can be seen there. ``coarse`` is an end-to-end
    flow both ways, in pixels of the frames. ``teacher`` are flows to both ends by another model at
    the free times alone, in pixels of their own grid, and ``teacher_mask`` its share of the first
    frame in the blend.
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
    """Frames before the free ones: the knots, or the two ends alone."""
    ends_only: bool = False
    """Whether the true frames between the ends are unknown."""

    @classmethod
    def of(cls, batch: Batch, every: int = 1) -> "ClipBatch":
        """Read a batch; raises ValueError if it lacks what a clip needs.

        Args:
            batch: With frames at `KNOTS` knots, then at free times.
            every: One knot in so many is kept: those at which the backbone makes keyframes.
        """
        lacking = {"frames", "times"} - batch.keys()
        if lacking:
            raise ValueError(f"a batch of clips needs {sorted(lacking)}; it has {sorted(batch)}")
        frames = batch["frames"]
        fixed = 2 if ENDS_ONLY in batch else KNOTS
        if frames.shape[1] < fixed:
            raise ValueError(f"a clip needs {KNOTS} frames at the knots; got {frames.shape[1]}")
        flows, coarse = batch.get("flows"), batch.get("coarse")
        h, w = frames.shape[-2:]
        if coarse is not None and coarse.shape[-2:] != (h, w):
            coarse = resize_flow(coarse.flatten(0, 1), (h, w)).unflatten(0, (-1, 2))
        return cls(
            frames,
            batch["times"],
            None if flows is None else flows.float() / FLOW_STRIDE,
            batch["visible"].float() if "visible" in batch else None,
            coarse,
            batch.get("latents"),
            batch.get("teacher"),
            batch.get("teacher_mask"),
            fixed,
            ENDS_ONLY in batch,
        )._thinned(every)

    def _thinned(self, every: int) -> "ClipBatch":
        if every == 1 or self.ends_only:
            return self

        def kept(x: Tensor) -> Tensor:
            return torch.cat((x[:, :KNOTS:every], x[:, KNOTS:]), dim=1)

        flows, visible, latents = self.flows, self.visible, self.latents
        return replace(
            self,
            frames=kept(self.frames),
            times=kept(self.times),
            flows=None if flows is None else kept(flows),
            visible=None if visible is None else kept(visible),
            latents=None if latents is None else latents[:, ::every],
            fixed=(KNOTS - 1) // every + 1,
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
    def knots(self) -> Float[Tensor, "b k 3 h w"]:
        """The frames at the knots; raises ValueError if only the ends are known."""
        if self.ends_only:
            raise ValueError(
                f"this stage learns from true frames at {KNOTS} knots, and the clips have their ends alone; "
                "they train stages that predict their keyframes (predicted=true)"
            )
        return self.frames[:, : self.fixed]

    @property
    def ends(self) -> slice:
        """Numbers of the first and the last frame among the fixed ones."""
        return slice(None, None, self.fixed - 1)

    def free(self, step: int) -> int:
        """Index of one of the free frames, another one at every step; raises ValueError if there are none."""
        count = self.frames.shape[1] - self.fixed
        if count < 1:
            raise ValueError(
                "these clips have no frames between the knots, so nothing can be rendered; make them with free times"
            )
        return self.fixed + step % count

    def taught(self, index: int) -> tuple[Float[Tensor, "b 2 2 ht wt"] | None, Float[Tensor, "b 1 ht wt"] | None]:
        """A teacher's flows and blend at the free frame number ``index``, where there are any."""
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
        """Exact motion to the knot before, then to the knot after backwards: (2b, k - 1, ...).

        Raises:
            ValueError: If some of the knots are left out, since exact flow leads from each knot to the next.
        """
        if self.fixed != KNOTS:
            raise ValueError(
                f"exact flow of adjacent frames is known between {KNOTS} knots; this backbone has {self.fixed}: "
                "set losses.adjacent=0"
            )
        assert self.flows is not None
        assert self.visible is not None
        before, after = slice(1, KNOTS), slice(0, KNOTS - 1)
        flows = torch.cat((self.flows[:, before, 2], self.flows[:, after, 3].flip(1)))
        seen = torch.cat((self.visible[:, before, 2], self.visible[:, after, 3].flip(1)))
        return flows, seen

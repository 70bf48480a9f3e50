"""Dense inverse search in batched tensors of fixed shapes, initialised with a flow.

Based on T. Kroeger et al., Fast Optical Flow using Dense Inverse Search (ECCV 2016, https://arxiv.org/abs/1603.03590):
every patch of the source is aligned with the target by inverse compositional Gauss-Newton steps, and the flow of a
pixel is the weighted mean of the patches that contain it. There are three differences:

* Patches are *affine*: each starts from the flow and its spatial derivatives around the patch, so that rotating and
  scaling surfaces are matched as well. The steps change the translation only.
* Patches have several initial states, which are compared in one batch: the flow of the previous scale and the initial
  flow, each with and without derivatives, zero motion, states propagated from neighbours at two distances, and global
  motions. So a correct motion spreads over a surface, as in PatchMatch.
* No loop and no index depends on data, so the search can be captured as a graph; both directions are one batch.

Global motions are the similarity transforms that keypoint matches vote for where the initial flow is wrong
(`rdvfi.motion.flow.similarity_votes`), and the dominant shift (`rdvfi.motion.flow.dominant_shift`): where a texture
repeats, a shifted copy matches a patch as well as the correct one does, and only unique structure elsewhere resolves
the ambiguity. Where a global motion points out of the image, its cost is its mean cost elsewhere, so that an object
that leaves the image keeps the motion of its visible part.

A patch returns to its initial state if it moves too far, does not reduce the residual, or leaves the image. At the end
of each scale the motion of patches that are occluded or without texture is extrapolated from consistent ones
(`rdvfi.motion.flow.occlusion_filling`). No gradient passes through the search. States of patches are (n, 7, p): u and v
at the centre, the derivatives du/dx, dv/dx, du/dy and dv/dy, and a penalty in grey levels.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from rdvfi.geometry import resize_flow
from rdvfi.motion.flow.dominant_shift import ZERO_PENALTY, dominant_shift
from rdvfi.motion.flow.gauss_newton import swap_halves, window_mean
from rdvfi.motion.flow.occlusion_filling import (
    BRIGHTNESS_SIGMA,
    DISTANCES,
    HALF_WEIGHT,
    TOLERANCE,
    consistency,
    extrapolate_inconsistent,
)
from rdvfi.motion.flow.similarity_votes import Transforms, voted_transforms
from rdvfi.ops.inference import inference_operator

States = Float[Tensor, "n k 7 p"]
State = Float[Tensor, "n 7 p"]

SCALES = (4, 2)
"""Factors by which the images are reduced, from coarse to fine."""
_SIDE, _STRIDE = 8, 4
"""Side and spacing of patches, in pixels of the current scale."""
_STEPS = 4
"""Gauss-Newton steps in each round."""
_REACHES = (1, 4)
"""Distances of the neighbours whose states are propagated, in patches."""
_DAMPING = 8.0
"""Damping of the Hessians, in squared grey levels, which keeps textureless patches at their initial state."""
_INVALID_PENALTY = 1e3
"""Penalty of a transform with too few inliers."""
_MAX_STEP = 8.0
"""Largest displacement of a patch in one round, in pixels."""
_TEXTURE_PENALTY = 0.25
"""Share of a patch's contrast by which a motion of the whole picture may be preferred: almost any motion
explains a plain patch to within a few grey levels."""
_MAX_COST = 48.0
"""Costs are clipped at this value, in grey levels."""
_INCONSISTENT_WEIGHT = 0.03
"""Weight in the dense flow of patches that are not consistent."""
_LUMA = (76.245, 149.685, 29.07)
"""BT.601, in grey levels from 0 to 255."""


@torch.no_grad()
def search_patches(
    images: Float[Tensor, "n 3 h w"], guess: Float[Tensor, "n 2 hg wg"], *, rounds: int
) -> Float[Tensor, "n 2 hs ws"]:
    """Refine a flow by patch search.

    Args:
        images: Source images in [0, 1], sides multiples of eight; the target of each is in the other half of
            the batch.
        guess: Initial flow of any size, in pixels of its own grid.
        rounds: Rounds at each scale; before each, every patch takes the best of its initial states.

    Returns:
        Flow at half the image size, in pixels of that size.
    """
    luma = grey_levels(images.float())
    found, dominant = None, None
    transforms = voted_transforms(luma, resize_flow(guess.float(), (luma.shape[-2], luma.shape[-1])))
    for scale in SCALES:
        source = F.avg_pool2d(luma, scale)
        size = (source.shape[-2], source.shape[-1])
        if dominant is None:
            dominant = dominant_shift(source)
        guesses = [resize_flow(flow.float(), size) for flow in (found, guess) if flow is not None]
        found = search_scale(source, guesses, common_motions(dominant, transforms.numbers, scale), rounds)
    assert found is not None
    return found


def _common_reference(shift: Tensor, transforms: Tensor, scale: int) -> Tensor:
    still = torch.zeros_like(shift[:, :1]).expand(-1, 4)
    whole = torch.cat((shift[:, :2] * (SCALES[0] / scale), still, shift[:, 2:]), dim=1)
    k, z = Transforms(transforms).a - 1.0, 0.5 * scale - 0.5  # the middle of that pixel, in pixels of the pictures
    start = (k * complex(z, z) + Transforms(transforms).b) / scale
    penalty = _INVALID_PENALTY * (1.0 - transforms[..., 4])
    parts = torch.stack((start.real, start.imag, k.real, k.imag, -k.imag, k.real, penalty), dim=2)
    return torch.cat((whole[:, None], parts), dim=1)


def _scale_reference(luma: Tensor, guesses: list[Tensor], common: Tensor, rounds: int) -> Tensor:
    patches, target = Patches.of(luma), swap_halves(luma)
    starts = []
    for guess in guesses:
        fitted = patches.fit_affine(guess)
        starts += [fitted, F.pad(fitted[:, :2], (0, 0, 0, 5))]
    still = F.pad(torch.zeros_like(starts[0][:, :6]), (0, 0, 0, 1), value=ZERO_PENALTY)
    whole = patches.states_of_motions(common)
    states = torch.cat((torch.stack((*starts, still), dim=1), patches.neighbours(starts[0])), dim=1)
    chosen = patches.best_states(target, states, whole)
    for _ in range(rounds - 1):
        chosen = patches.gauss_newton(target, chosen)
        states = torch.cat((chosen[:, None], patches.neighbours(chosen)), dim=1)
        chosen = patches.best_states(target, states)
    chosen = patches.best_states(target, patches.gauss_newton(target, chosen)[:, None], whole)
    return patches.dense_flow(target, patches.fill_inconsistent(chosen))


@dataclass(frozen=True, eq=False)
class Patches:
    """Patches of source images: everything that is constant during the search.

    Attributes:
        size: Size of the pictures, (height, width).
        counts: Number of patches, (rows, columns).
        template: Their pixels.
        descent: Inverse Hessian times gradient of every pixel: a step is one sum of products.
        centre: Centre of every patch, (x, y).
        offset: Offset of every pixel from its patch's centre, (x, y).
        contrast: Standard deviation of every patch, in grey levels.
    """

    size: tuple[int, int]
    counts: tuple[int, int]
    template: Float[Tensor, "n p k"]
    descent: Float[Tensor, "n p k 2"]
    centre: Float[Tensor, "2 p"]
    offset: Float[Tensor, "2 k"]
    contrast: Float[Tensor, "n p"]

    @classmethod
    def of(cls, image: Float[Tensor, "n 1 h w"]) -> "Patches":
        """Cut pictures into overlapping patches; borders are replicated."""
        size = (image.shape[-2], image.shape[-1])
        rows, columns = (max(0, -(-(side - _SIDE) // _STRIDE)) + 1 for side in size)
        wide = F.pad(torch.cat((image, _gradient(image)), dim=1), _padding(size, (rows, columns)), mode="replicate")
        cut = F.unfold(wide, _SIDE, stride=_STRIDE).unflatten(1, (3, -1)).transpose(2, 3)
        slopes = cut[:, 1:] - cut[:, 1:].mean(-1, keepdim=True)
        x, y = slopes.unbind(1)
        xx, yy = (s.square().sum(-1, keepdim=True) + _DAMPING for s in (x, y))
        xy = (x * y).sum(-1, keepdim=True)
        descent = torch.stack((yy * x - xy * y, xx * y - xy * x), dim=-1) / (xx * yy - xy * xy)[..., None]
        inner = torch.arange(_SIDE, dtype=torch.float32, device=image.device) - (_SIDE - 1) / 2
        lines = [torch.arange(n, dtype=torch.float32, device=image.device) * _STRIDE for n in (columns, rows)]
        centre = _mesh(lines[0] + (_SIDE - 1) / 2, lines[1] + (_SIDE - 1) / 2)
        return cls(size, (rows, columns), cut[:, 0], descent, centre, _mesh(inner, inner), _deviation(cut[:, 0]))

    @property
    def half_pixels(self) -> "Patches":
        """The same with half of the pixels, as on a chessboard: enough to compare states."""
        line = torch.arange(_SIDE, device=self.offset.device)
        half = torch.arange(0, _SIDE, 2, device=self.offset.device)
        few = (line[:, None] * _SIDE + half + line[:, None] % 2).flatten()
        return replace(
            self, template=self.template[..., few], descent=self.descent[..., few, :], offset=self.offset[:, few]
        )

    def fit_affine(self, flow: Float[Tensor, "n 2 h w"], *, beyond: int = 4) -> State:
        """The affine flow of every patch by least squares; slopes are taken over twice its side."""
        side = _SIDE + 2 * beyond
        line = torch.arange(side, dtype=torch.float32, device=flow.device) - (side - 1) / 2
        even, slope = torch.ones_like(line) / side, line / line.square().sum()
        inner = (line.abs() < _SIDE / 2).float() / _SIDE
        kernels = torch.stack((inner[:, None] * inner, even[:, None] * slope, slope[:, None] * even))
        right, below = _padding(self.size, self.counts)[1::2]
        wide = F.pad(flow, (beyond, right + beyond, beyond, below + beyond), mode="replicate")
        made = F.conv2d(wide.flatten(0, 1)[:, None], kernels[:, None], stride=_STRIDE)
        affine = made.unflatten(0, (-1, 2)).transpose(1, 2).flatten(1, 2).flatten(2)
        return F.pad(affine, (0, 0, 0, 1))

    def states_of_motions(self, common: Float[Tensor, "n g 7"]) -> States:
        """States of all patches for each of some global motions."""
        e, (x, y) = common[..., None], self.centre
        shift = e[:, :, :2] + e[:, :, 2:4] * x + e[:, :, 4:6] * y
        return torch.cat((shift, e[:, :, 2:].expand(-1, -1, -1, len(x))), dim=2)

    def neighbours(self, state: State) -> States:
        """States of four neighbours at each distance, extrapolated by their derivatives."""
        rows, columns = self.counts
        most = max(_REACHES)
        wide = F.pad(state.unflatten(2, self.counts), (most,) * 4, mode="replicate")
        found = []
        for reach in _REACHES:
            for dy, dx in ((0, -reach), (0, reach), (-reach, 0), (reach, 0)):
                here = wide[:, :, most + dy : most + dy + rows, most + dx : most + dx + columns].flatten(2)
                shift = here[:, :2] - _STRIDE * (dx * here[:, 2:4] + dy * here[:, 4:6])
                found.append(torch.cat((shift, here[:, 2:]), dim=1))
        return torch.stack(found, dim=1)

    def best_states(
        self, target: Float[Tensor, "n 1 h w"], states: States, common: Float[Tensor, "n g 7 p"] | None = None
    ) -> State:
        """The state of least cost, including the cost of neighbouring patches.

        Args:
            target: Pictures that the patches lead to.
            states: States of each patch.
            common: Motions of the whole picture or of large parts. Where one leads out of the picture there
                is nothing to compare: it costs there what it costs elsewhere.
        """
        few = self.half_pixels
        cost = few.cost(few.warp(target, states)).clamp(max=_MAX_COST)
        if common is not None:
            beyond = few.cost(few.warp(target, common)).clamp(max=_MAX_COST)
            cost = torch.cat((cost, self._extrapolate_costs(beyond, self.outside(common))), dim=1)
            states = torch.cat((states, common), dim=1)
        penalty = torch.maximum(states[:, :, 6], -_TEXTURE_PENALTY * self.contrast[:, None])
        cost = (cost + window_mean(cost.unflatten(2, self.counts), 3).flatten(2)) + penalty
        chosen = cost.argmin(1, keepdim=True)
        state = states.gather(1, chosen[:, :, None].expand(-1, 1, 7, -1))[:, 0]
        return torch.cat((state[:, :6], penalty.gather(1, chosen)), dim=1)

    @staticmethod
    def _extrapolate_costs(cost: Float[Tensor, "n k p"], outside: Float[Tensor, "n k p"]) -> Float[Tensor, "n k p"]:
        """Costs whose values outside of the picture are the mean of those inside, if there are enough."""
        inside = 1.0 - outside
        elsewhere = (inside * cost).sum(2, keepdim=True) / inside.sum(2, keepdim=True).clamp(min=1.0)
        enough = ((inside.mean(2, keepdim=True) - 0.25) / 0.25).clamp(0.0, 1.0)
        return inside * cost + outside * torch.lerp(torch.full_like(elsewhere, _MAX_COST), elsewhere, enough)

    def gauss_newton(self, target: Float[Tensor, "n 1 h w"], start: State) -> State:
        """Gauss-Newton steps; patches that do not improve return to their initial state."""
        state, before = start, self.warp(target, start[:, None])[:, 0]
        still = (self.template[..., None] * self.descent).sum(2)
        # Steps are in the source: slopes carry them to the target.
        to_x = torch.stack((1.0 + start[:, 2], start[:, 4]), dim=-1)
        to_y = torch.stack((start[:, 3], 1.0 + start[:, 5]), dim=-1)
        seen = before
        for _ in range(_STEPS):
            step = still - (seen[..., None] * self.descent).sum(2)
            shift = state[:, :2] + torch.stack(((to_x * step).sum(-1), (to_y * step).sum(-1)), dim=1)
            state = torch.cat((shift, start[:, 2:]), dim=1)
            seen = self.warp(target, state[:, None])[:, 0]
        better = self.cost(seen) <= self.cost(before)
        near = (state[:, :2] - start[:, :2]).square().sum(1) < _MAX_STEP**2
        inside = torch.maximum(self.outside(start), self.outside(state)) < 0.3
        return torch.where((better & near & inside)[:, None], state, start)

    def fill_inconsistent(self, state: State) -> State:
        """Inconsistent patches take the mean motion of consistent ones (`rdvfi.motion.flow.occlusion_filling`)."""
        shift = state[:, :2].unflatten(2, self.counts)
        brightness = self.template.mean(-1)[:, None].unflatten(2, self.counts)
        shift, share = extrapolate_inconsistent(shift, consistency(shift, _STRIDE), brightness)
        derivatives = state[:, 2:6] * (1.0 - share.flatten(2))
        return torch.cat((shift.flatten(2), derivatives, state[:, 6:]), dim=1)

    def dense_flow(self, target: Float[Tensor, "n 1 h w"], state: State) -> Float[Tensor, "n 2 h w"]:
        """Flow of every pixel: the mean over its patches, weighted by consistency and by their inverse residual."""
        seen = self.warp(target, state[:, None])[:, 0]
        consistent = consistency(state[:, :2].unflatten(2, self.counts), _STRIDE).flatten(1)
        weight = (seen - self.template).abs().clamp(min=1.0).reciprocal()
        weight = weight * ((consistent + _INCONSISTENT_WEIGHT) * self.cost(seen).clamp(min=1.0).pow(-2))[..., None]
        x, y = self.offset
        e = state[..., None]
        u, v = (e[:, i] + e[:, 2 + i] * x + e[:, 4 + i] * y for i in (0, 1))
        maps = torch.stack((weight, weight * u, weight * v), dim=1).transpose(2, 3).flatten(1, 2)
        right, below = _padding(self.size, self.counts)[1::2]
        padded = (self.size[0] + below, self.size[1] + right)
        total = F.fold(maps, padded, _SIDE, stride=_STRIDE)[..., : self.size[0], : self.size[1]]
        return total[:, 1:] / total[:, :1]

    def warp(self, target: Float[Tensor, "n 1 h w"], states: States) -> Float[Tensor, "n k p s"]:
        """The target, sampled at the pixels of the patches: bilinear, replicated borders."""
        h, w = self.size
        u, v, ux, vx, uy, vy = states[:, :, :6].unbind(2)
        x, y = self.centre
        # Normalised coordinates are linear in the offset: one product of matrices makes all of them.
        across = ((2.0 * (x + u) + 1.0) / w - 1.0, (1.0 + ux) * (2.0 / w), uy * (2.0 / w))
        down = ((2.0 * (y + v) + 1.0) / h - 1.0, vx * (2.0 / h), (1.0 + vy) * (2.0 / h))
        grid = torch.stack((*across, *down), dim=-1).flatten(1, 2) @ self._offsets()
        seen = F.grid_sample(target, grid.unflatten(2, (-1, 2)), padding_mode="border", align_corners=False)
        return seen.view(*u.shape, -1)

    def _offsets(self) -> Float[Tensor, "6 k"]:
        """Contributions of (1, x, y) of every pixel to its two coordinates, interleaved."""
        places = torch.cat((torch.ones_like(self.offset[:1]), self.offset))
        return (torch.eye(2, device=places.device)[:, None, None] * places[None, :, :, None]).flatten(2).flatten(0, 1)

    def cost(self, seen: Float[Tensor, "n *k p s"]) -> Float[Tensor, "n *k p"]:
        """Standard deviation of the residual of a patch, in grey levels; invariant to a change of brightness."""
        template = self.template if seen.dim() == 3 else self.template[:, None]
        return _deviation(seen - template)

    def outside(self, state: Float[Tensor, "n *k 7 p"]) -> Float[Tensor, "n *k p"]:
        """The fraction of a patch that is outside of the image, by its centre."""
        beyond = [
            (self.centre[i] + state[..., i, :] - (side - 1) / 2).abs() - side / 2
            for i, side in enumerate((self.size[1], self.size[0]))
        ]
        return (torch.maximum(beyond[0], beyond[1]) / _SIDE + 0.5).clamp(0.0, 1.0)


def _padding(size: tuple[int, int], counts: tuple[int, int]) -> tuple[int, int, int, int]:
    """Padding at the right and below until patches cover the picture, as `F.pad` takes it."""
    below, right = ((n - 1) * _STRIDE + _SIDE - side for n, side in zip(counts, size, strict=True))
    return 0, right, 0, below


def _mesh(xs: Float[Tensor, " w"], ys: Float[Tensor, " h"]) -> Float[Tensor, "2 hw"]:
    return torch.stack((xs.expand(len(ys), -1), ys[:, None].expand(-1, len(xs)))).flatten(1)


def _deviation(patches: Float[Tensor, "*n k"]) -> Float[Tensor, " *n"]:
    """Standard deviation over the pixels of each patch."""
    return (patches.square().mean(-1) - patches.mean(-1).square()).clamp(min=1e-4).sqrt()


def _gradient(image: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n 2 h w"]:
    """Scharr's derivatives, per pixel."""
    wide = F.pad(image, (1, 1, 1, 1), mode="replicate")

    def smooth(x: Tensor, dim: int) -> Tensor:
        n = x.shape[dim] - 2
        return (3.0 * (x.narrow(dim, 0, n) + x.narrow(dim, 2, n)) + 10.0 * x.narrow(dim, 1, n)) / 16.0

    across = 0.5 * smooth(wide[..., 2:] - wide[..., :-2], -2)
    down = 0.5 * smooth(wide[..., 2:, :] - wide[..., :-2, :], -1)
    return torch.cat((across, down), dim=1)


def _grey_reference(images: Tensor) -> Tensor:
    r, g, b = images.split(1, dim=1)
    return _LUMA[0] * r + _LUMA[1] * g + _LUMA[2] * b


grey_levels = inference_operator(
    "grey_levels",
    _grey_reference,
    lambda images: images.new_empty((images.shape[0], 1, *images.shape[2:])),
    "surface",
    settings={"luma": _LUMA},
)
"""Brightness of pictures in [0, 1], (n, 3, h, w), from 0 to 255."""

common_motions = inference_operator(
    "common_motions",
    _common_reference,
    lambda shift, transforms, scale: shift.new_empty((shift.shape[0], transforms.shape[1] + 1, 7)),
    "patch_states",
    settings={"disagreement_penalty": _INVALID_PENALTY, "coarsest_scale": SCALES[0]},
)
"""States at the upper left pixel of motions of the whole picture, whose slopes hold everywhere: of the dominant
shift of the coarsest scale (n, 3), and of transforms of pictures ``scale`` times as large (n, t, 5)."""

search_scale = inference_operator(
    "searched_scale",
    _scale_reference,
    lambda luma, guesses, common, rounds: luma.new_empty((luma.shape[0], 2, *luma.shape[2:])),
    "patch_search",
    launches=14,
    settings={
        "tolerance": TOLERANCE,
        "sigma": BRIGHTNESS_SIGMA,
        "distances": DISTANCES,
        "half_weight": HALF_WEIGHT,
        "inconsistent_weight": _INCONSISTENT_WEIGHT,
        "side": _SIDE,
        "stride": _STRIDE,
        "steps": _STEPS,
        "reaches": _REACHES,
        "zero_penalty": ZERO_PENALTY,
        "texture_penalty": _TEXTURE_PENALTY,
        "max_cost": _MAX_COST,
        "damping": _DAMPING,
        "max_step": _MAX_STEP,
    },
)
"""The flow at one scale: of pictures in grey levels (n, 1, h, w), whose targets are their partners in the
other half of the batch; from guesses (n, 2, h, w), the first of which neighbours hand on, and motions of the
whole picture (n, g, 7), in some rounds."""

"""DIS between two images, and a choice among similarity hypotheses; NumPy and OpenCV.

DIS (Kroeger et al., 2016, https://arxiv.org/abs/1603.03590) matches upright patches: it is fast and accurate for
moderate motion and fails for large rotations and zooms. SIFT keypoints (Lowe, 2004) are invariant to both.
`similarity_flow` combines them: keypoint matches that contradict DIS are fitted by similarity transforms (RANSAC); for
each, the target is warped back by the transform, DIS estimates the remaining motion, and every pixel takes the
candidate of least photometric error. Where no match contradicts DIS, the result **is** DIS.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

Gray = UInt8[np.ndarray, "h w"]
Field = Float[np.ndarray, "h w 2"]
Cost = Float[np.ndarray, "h w"]

PRESETS = ("ultrafast", "fast", "medium")
_WRONG_BEYOND = 3.0
"""Distance in pixels above which a keypoint match contradicts DIS."""
_ENOUGH_MATCHES = 8
_MOST_HYPOTHESES = 3
_WORST = 48.0
"""Photometric errors are clipped at this value, in grey levels."""
_MILD = 16.0
"""The same for the mean over the wider window."""
_WIDER = 5
"""Side of the wider window, in windows."""
_PENALTY = 2.0
"""Penalty of a hypothesis against DIS, in grey levels."""


def check_preset(preset: str) -> None:
    """Refuse a preset that OpenCV does not have."""
    if preset not in PRESETS:
        raise ValueError(f"no DIS preset named {preset!r}; expected one of {PRESETS}")


def to_gray(image: Float[Tensor, "3 h w"]) -> Gray:
    """8-bit luma (BT.601) of an RGB image in [0, 1]."""
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float32, device=image.device)
    luma = (image.float() * weights[:, None, None]).sum(0)
    return (luma.clamp(0, 1) * 255.0).round().to(torch.uint8).cpu().numpy()


class DIS:
    """OpenCV's DIS on 8-bit images."""

    def __init__(self, preset: str) -> None:
        import cv2

        check_preset(preset)
        # OpenCV's type stubs leave both names out.
        create = getattr(cv2, "DISOpticalFlow_create")  # noqa: B009
        chosen = getattr(cv2, f"DISOPTICAL_FLOW_PRESET_{preset.upper()}")
        self._create = lambda: create(chosen)
        self._dis = self._create()

    def __call__(self, source: Gray, target: Gray) -> Field:
        return self._dis.calc(source, target, None)

    def estimate_from(self, source: Gray, target: Gray, guess: Field) -> Field:
        """Flow where every patch has one more candidate, at every scale: the guess."""
        # OpenCV writes over the guess, and its object keeps it for the calls that follow.
        return self._create().calc(source, target, guess.copy())


def _look_up(image: Gray, field: Field) -> Gray:
    import cv2

    h, w = image.shape
    xs, ys = np.meshgrid(np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32))
    border = cv2.BORDER_REPLICATE
    return cv2.remap(image, xs + field[..., 0], ys + field[..., 1], cv2.INTER_LINEAR, borderMode=border)


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """A flow from elsewhere, and by how many grey levels it must be better, pixel by pixel."""

    field: Field
    penalty: Cost


class Keypoints:
    """SIFT keypoints and their descriptors; each picture is read once."""

    def __init__(self) -> None:
        import cv2

        self._sift = cv2.SIFT_create(nfeatures=800, contrastThreshold=0.02)  # pyright: ignore[reportAttributeAccessIssue]
        self._cached: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}

    def __call__(self, image: Gray) -> tuple[np.ndarray, np.ndarray]:
        """Positions (n, 2) and descriptors (n, 128)."""
        key = image.tobytes()
        if key not in self._cached:
            points, descriptors = self._sift.detectAndCompute(image, None)
            if descriptors is None:
                descriptors = np.zeros((0, 128), np.float32)
            places = np.array([point.pt for point in points], np.float32).reshape(-1, 2)
            self._cached[key] = places, descriptors
        return self._cached[key]


def _matches(source: Gray, target: Gray, find: Keypoints) -> tuple[np.ndarray, np.ndarray]:
    """Mutual nearest keypoints that pass Lowe's ratio test: two (n, 2) arrays of positions."""
    (points0, descriptors0), (points1, descriptors1) = find(source), find(target)
    if len(points0) < 2 or len(points1) < 2:
        return np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32)
    similarity = descriptors0 @ descriptors1.T
    norms0, norms1 = (descriptors0**2).sum(1), (descriptors1**2).sum(1)
    distance = np.maximum(norms0[:, None] + norms1[None] - 2.0 * similarity, 0.0)
    two = np.partition(distance, 1, axis=1)[:, :2]
    best = distance.argmin(1)
    mutual = distance.argmin(0)[best] == np.arange(len(best))
    keep = mutual & (two[:, 0] < 0.85**2 * two[:, 1])
    return points0[keep], points1[best[keep]]


def _similarities(p0: np.ndarray, p1: np.ndarray) -> list[np.ndarray]:
    """Similarity motions (2x3, source to target) that explain groups of matches, largest first."""
    import cv2

    similarities: list[np.ndarray] = []
    while len(p0) >= _ENOUGH_MATCHES and len(similarities) < _MOST_HYPOTHESES:
        matrix, inliers = cv2.estimateAffinePartial2D(
            p0, p1, method=cv2.RANSAC, ransacReprojThreshold=3.0, maxIters=2000, confidence=0.999
        )
        if matrix is None:
            break
        inside = inliers[:, 0].astype(bool)
        scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
        if inside.sum() < _ENOUGH_MATCHES or not 0.4 < scale < 2.5:
            break
        similarities.append(matrix)
        p0, p1 = p0[~inside], p1[~inside]
    return similarities


def _candidate(dis: DIS, source: Gray, target: Gray, matrix: np.ndarray) -> Field:
    """Flow of one similarity hypothesis, refined by DIS on the target turned back."""
    import cv2

    h, w = source.shape
    turned_back = cv2.warpAffine(
        target, matrix, (w, h), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
    )
    rest = dis(source, turned_back)
    # Outside the target nothing can be matched: there the similarity itself is the best guess.
    xs, ys = np.meshgrid(np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32))

    def move(x: np.ndarray, y: np.ndarray) -> Field:
        return np.stack(
            (matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2], matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]),
            axis=-1,
        ).astype(np.float32)

    here = np.stack((xs, ys), axis=-1)
    plain = move(xs, ys)
    refined = move(xs + rest[..., 0], ys + rest[..., 1])
    out = (plain[..., 0] < 0) | (plain[..., 0] > w - 1) | (plain[..., 1] < 0) | (plain[..., 1] > h - 1)
    strayed = np.abs(rest).max(-1) > 16.0
    return np.where((out | strayed)[..., None], plain, refined) - here


def _misfit(source: Gray, target: Gray, field: Field, window: int) -> Cost:
    """Mean grey-level error around each pixel of explaining ``source`` by ``target``."""
    import cv2

    error = np.minimum(cv2.absdiff(source, _look_up(target, field)).astype(np.float32), _WORST)
    h, w = source.shape
    x, y = field[..., 0] + np.arange(w), field[..., 1] + np.arange(h)[:, None]
    outside = (x < 0) | (x > w - 1) | (y < 0) | (y > h - 1)
    # Pixels that leave the picture cannot be compared. Their error is taken to be the mean of the others, if enough of
    # the picture remains.
    kept = 1.0 - float(outside.mean())
    trust = min(1.0, max(0.0, (kept - 0.25) / 0.25))
    elsewhere = float(error[~outside].mean()) if kept > 0.0 else _WORST
    error[outside] = trust * elsewhere + (1.0 - trust) * _WORST
    return cv2.blur(error, (window, window))


def _surroundings(costs: Float[np.ndarray, "n h w"], side: int) -> Float[np.ndarray, "n h w"]:
    """Mean cost farther around.

    Where several candidates explain a pixel alike (a plain wall), it most likely moves as what can
    be told apart near it.
    """
    import cv2

    return np.stack([cv2.blur(np.minimum(cost, _MILD), (side, side)) for cost in costs])


def similarity_flow(
    dis: DIS, source: Gray, target: Gray, find: Keypoints | None = None, learned: Hypothesis | None = None
) -> Field:
    """DIS flow, replaced by other hypotheses where those explain the picture better.

    Args:
        dis: Finds flow.
        source: Its flow is estimated.
        target: Where it leads.
        find: Finds keypoints; given for several flows, it reads each picture once.
        learned: DIS starts from this flow, and it is a hypothesis as it is.
    """
    if learned is None:
        plain = dis(source, target)
    else:
        plain = dis.estimate_from(source, target, learned.field)
    p0, p1 = _matches(source, target, find or Keypoints())
    h, w = source.shape
    columns, rows = np.rint(p0).astype(int).T
    guess = p0 + plain[np.clip(rows, 0, h - 1), np.clip(columns, 0, w - 1)]
    wrong = np.linalg.norm(guess - p1, axis=1) > _WRONG_BEYOND
    hypotheses = _similarities(p0[wrong], p1[wrong])
    fields = [plain, *(_candidate(dis, source, target, m) for m in hypotheses)]
    if learned is not None:
        fields.append(learned.field)
    if len(fields) == 1:
        return plain
    # The more of its matches DIS fails on, the less preference it deserves.
    share = float(wrong.mean()) if len(wrong) else 0.0
    penalty = _PENALTY * max(0.0, 1.0 - 1.5 * share)
    window = max(9, min(h, w) // 16 | 1)
    costs = np.stack([_misfit(source, target, field, window) for field in fields])
    costs[0] -= penalty
    if learned is not None:
        costs[-1] += learned.penalty
    best = (costs + _surroundings(costs, _WIDER * window)).argmin(0)
    return np.take_along_axis(np.stack(fields), best[None, ..., None], axis=0)[0]

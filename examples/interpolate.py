"""Interpolate between two frames of a clip: estimate the motion once, render at any time.

    python examples/interpolate.py [CLIP [OUT.png]]

Writes a picture with the first frame, five interpolated ones and the last frame, from top to bottom.
"""

import sys

import av
import cv2
import numpy as np
import torch

import rdvfi


def read_pair(path: str, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Frame ``number`` of a clip and the next one as RGB arrays."""
    with av.open(path) as clip:
        frames = [frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0)]
    return frames[number], frames[number + 1]


def to_tensor(frame: np.ndarray) -> torch.Tensor:
    """Convert (H, W, 3) uint8 to (1, 3, H, W) float in [0, 1]."""
    return torch.from_numpy(frame).permute(2, 0, 1)[None] / 255.0


def to_uint8(image: torch.Tensor) -> np.ndarray:
    """Convert (3, H, W) in [0, 1] to (H, W, 3) uint8."""
    return (image.permute(1, 2, 0) * 255).round().byte().numpy()


def main() -> None:
    """Interpolate one pair."""
    source = sys.argv[1] if len(sys.argv) > 1 else "examples/clips/branch.mp4"
    destination = sys.argv[2] if len(sys.argv) > 2 else "between.png"

    model = rdvfi.create_model("rdvfi-s")
    first, last = read_pair(source, 6)
    img0, img1 = to_tensor(first), to_tensor(last)

    motion = model.estimate(img0, img1, seed=0)  # once per pair
    times = torch.linspace(0, 1, 7)
    frames = model.render(img0, img1, motion, times)[0]  # once per frame

    confidences = motion.trajectory.confidence(times).mean(dim=(0, 2, 3, 4))
    for time, confidence in zip(times.tolist(), confidences.tolist(), strict=True):
        print(f"t = {time:.3f}: mean confidence {confidence:.2f}")
    picture = np.concatenate([to_uint8(frame) for frame in frames])
    cv2.imwrite(destination, picture[..., ::-1])
    print(f"wrote {destination}")


if __name__ == "__main__":
    main()

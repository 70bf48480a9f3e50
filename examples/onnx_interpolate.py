"""Frames between two pictures by ONNX Runtime and NumPy: no torch, no rdvfi.

rdvfi export onnx exported                      once, where rdvfi is installed
pip install onnxruntime numpy pillow            where it shall run
python onnx_interpolate.py exported first.png last.png out --count 3
"""

import argparse
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image


def interpolate(folder: Path, img0: np.ndarray, img1: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Frames (T, H, W, 3) at some times in [0, 1] between two pictures (H, W, 3), all of 8 bits."""
    estimate, render = (onnxruntime.InferenceSession(str(folder / f"{name}.onnx")) for name in ("estimate", "render"))
    meta = estimate.get_modelmeta().custom_metadata_map
    least = [max(int(meta[f"motion_{side}"]), 128) for side in ("height", "width")]
    if img0.shape != img1.shape or img0.shape[0] < least[0] or img0.shape[1] < least[1]:
        raise SystemExit(f"got {img0.shape}, {img1.shape}; expected one size, from {least[1]}x{least[0]} pixels on")
    pictures = [picture.transpose(2, 0, 1)[None].astype(np.float32) / 255.0 for picture in (img0, img1)]
    images = dict(zip(("img0", "img1"), pictures, strict=True))
    motion = dict(zip([output.name for output in estimate.get_outputs()], estimate.run(None, images), strict=True))
    (frames,) = render.run(None, {**images, **motion, "timesteps": times.astype(np.float32)})
    return np.round(frames[0].transpose(0, 2, 3, 1) * 255.0).astype(np.uint8)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("folder", "first", "last", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--count", type=int, default=1, help="frames between")
    given = parser.parse_args()
    given.out.mkdir(exist_ok=True)
    first, last = (np.asarray(Image.open(path).convert("RGB")) for path in (given.first, given.last))
    for i, frame in enumerate(interpolate(given.folder, first, last, np.linspace(0, 1, given.count + 2)[1:-1])):
        Image.fromarray(frame).save(given.out / f"{i + 1:03d}.png")

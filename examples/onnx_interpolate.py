"""Interpolate between two pictures with ONNX Runtime and NumPy, without torch or rdvfi.

rdvfi export onnx exported                      once, on a machine with rdvfi
pip install onnxruntime numpy pillow            on the machine that runs this script
python onnx_interpolate.py exported first.png last.png out --count 3
"""

import argparse
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image


def interpolate(folder: Path, img0: np.ndarray, img1: np.ndarray, times: np.ndarray) -> np.ndarray:
    """uint8 frames (T, H, W, 3) at times in [0, 1] between two uint8 pictures (H, W, 3)."""
    estimate, render = (onnxruntime.InferenceSession(str(folder / f"{name}.onnx")) for name in ("estimate", "render"))
    metadata = estimate.get_modelmeta().custom_metadata_map
    min_size = [max(int(metadata[f"motion_{side}"]), 128) for side in ("height", "width")]
    if img0.shape != img1.shape or img0.shape[0] < min_size[0] or img0.shape[1] < min_size[1]:
        raise SystemExit(f"got {img0.shape}, {img1.shape}; expected one size of at least {min_size[::-1]} pixels")
    pictures = [picture.transpose(2, 0, 1)[None].astype(np.float32) / 255.0 for picture in (img0, img1)]
    images = dict(zip(("img0", "img1"), pictures, strict=True))
    motion = dict(zip([output.name for output in estimate.get_outputs()], estimate.run(None, images), strict=True))
    (frames,) = render.run(None, {**images, **motion, "timesteps": times.astype(np.float32)})
    return np.round(frames[0].transpose(0, 2, 3, 1) * 255.0).astype(np.uint8)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("folder", "first", "last", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--count", type=int, default=1, help="number of interpolated frames")
    args = parser.parse_args()
    args.out.mkdir(exist_ok=True)
    first, last = (np.asarray(Image.open(path).convert("RGB")) for path in (args.first, args.last))
    for i, frame in enumerate(interpolate(args.folder, first, last, np.linspace(0, 1, args.count + 2)[1:-1])):
        Image.fromarray(frame).save(args.out / f"{i + 1:03d}.png")

"""Drawing frames on a CPU by compiled code, for those who ask: `compile_render`.

`rdvfi.ops.render` needs no compiler, and what it takes on a CPU is mostly due to that: PyTorch's
operators go through memory between any two steps. ``draw.cpp`` goes through all steps a few hundred
pixels at a time. It is built by any GCC or Clang in about a second, knows nothing of Python or
PyTorch, and is called through `ctypes`, which lets rows be drawn in as many threads as PyTorch has.
A row's result depends on no other row, so results do not depend on the number of threads.

Why no `torch.compile`: of the same formulation inductor keeps the upsampled maps of all frames in
memory, which is slower than working tile by tile; told to keep none, it takes minutes to compile.
"""

import ctypes
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.ops.fresh import fresh
from rdvfi.types import Image, Video

COMPILERS = ("c++", "g++", "clang++")
"""What is looked for unless the environment variable CXX names a compiler."""

_SOURCE = Path(__file__).with_name("draw.cpp")
_FLAGS = ("-std=c++17", "-O3", "-shared", "-fPIC")
# Sums may be fused; infinities and what is not a number keep their meaning.
_FLAGS += ("-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math")
_PARTS_PER_THREAD = 4

_draw: Callable[..., None] | None = None


def compile_render() -> None:
    """Compile `rdvfi.ops.render` for the CPU, for the rest of this process.

    Frames change by rounding only. A second call does nothing; `forget` undoes it. Beside images
    and frames, drawing takes 24 bytes per full-size pixel then. ``upsample="consistent"`` and calls
    that record gradients are not compiled.

    Raises:
        RuntimeError: If there is no C++ compiler (GCC or Clang), or it fails.
    """
    global _draw
    if _draw is None:
        _draw = _built(_compiler())


def forget() -> None:
    """Draw without compiled code again: comparisons of both in one process need it."""
    global _draw
    _draw = None


def is_compiled() -> bool:
    """Whether compiled code draws now."""
    return _draw is not None


def draw_compiled(img0: Image, img1: Image, maps: Float[Tensor, "b t 8 h w"]) -> Video:
    """Frames from joined maps (`rdvfi.ops.drawing.join`), clamped to [0, 1]; float32.

    Raises:
        RuntimeError: If nothing was compiled.
    """
    if _draw is None:
        raise RuntimeError("call rdvfi.ops.compile_render() first")
    (h, w), (t, small_h, small_w) = img0.shape[-2:], (maps.shape[i] for i in (1, 3, 4))
    to_pixels = torch.tensor([w / 2, h / 2, w / 2, h / 2, 1, 1, 1, 1])[:, None, None]
    maps = (maps * to_pixels).contiguous()
    frames = fresh(len(maps), t, 3, h, w)
    threads = torch.get_num_threads()
    parts = _PARTS_PER_THREAD * threads if threads > 1 else 1
    edges = [t * h * i // parts for i in range(parts + 1)]
    with ThreadPoolExecutor(threads) as pool:
        for first, last, times, drawn in zip(img0, img1, maps, frames, strict=True):
            packed = _packed(first), _packed(last)  # held until all rows are drawn
            pointers = [x.data_ptr() for x in (*packed, times, drawn)]
            sizes = (h, w, small_h, small_w)

            def draw(begin: int, end: int, given: tuple[int, ...] = (*pointers, *sizes)) -> None:
                assert _draw is not None
                _draw(*given, begin, end)

            list(pool.map(draw, edges[:-1], edges[1:]))
    return frames


def _packed(image: Float[Tensor, "3 H W"]) -> Float[Tensor, " n"]:
    """The image as (H, W, 3) and one value more."""
    packed = torch.zeros(image.numel() + 1)
    packed[:-1].view(*image.shape[1:], 3).copy_(image.permute(1, 2, 0))
    return packed


def _compiler() -> list[str]:
    """The command of a C++ compiler."""
    named = shlex.split(os.environ.get("CXX", ""))
    candidates = [named] if named else [[name] for name in COMPILERS]
    for command in candidates:
        if shutil.which(command[0]) is not None:
            return command
    looked = f"CXX={os.environ['CXX']}" if named else f"none of {', '.join(COMPILERS)}"
    missing = "was not found" if named else "was found"
    raise RuntimeError(
        f"rdvfi.ops.render can only be compiled by a C++ compiler, GCC or Clang; {looked} "
        f"{missing}. Install one or set CXX to one, or go on without: frames are the same, only "
        "drawn more slowly"
    )


def _built(compiler: list[str]) -> Callable[..., None]:
    """``draw.cpp``, built and loaded; no file of it is left."""
    vectors = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    flags = (*_FLAGS, *(("-mavx2", "-mfma") if vectors else ()))
    # What is loaded cannot be removed on Windows.
    with tempfile.TemporaryDirectory(prefix="rdvfi-", ignore_cleanup_errors=True) as folder:
        library = Path(folder) / "draw.so"
        command = [*compiler, *flags, str(_SOURCE), "-o", str(library)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0 or not library.exists():
            raise RuntimeError(
                f"rdvfi.ops.render could not be compiled: {shlex.join(command)} ended with "
                f"{done.returncode}\n{done.stderr}"
            )
        draw = ctypes.CDLL(str(library)).rdvfi_draw
    draw.argtypes = [ctypes.c_void_p] * 4 + [ctypes.c_int] * 4 + [ctypes.c_ssize_t] * 2
    draw.restype = None
    return draw

"""Decoding on a GPU: NVDEC, through FFmpeg's CUDA path in PyAV.

Frames stay in the GPU's memory, and FFmpeg shares torch's context there. NVDEC takes most of H.264, HEVC, VP9, MPEG-2
and MPEG-4 with 4:2:0. Other videos, and machines without NVDEC, are decoded on the CPU, and the log says why. So is
AV1: PyAV opens it by libdav1d, which has no hardware path.
"""

import logging
from pathlib import Path

import av
import av.error
import torch
from av.codec.hwaccel import HWAccel, hwdevices_available

from rdvfi.media.planes import plane_tensor
from rdvfi.media.video_files.probe import file_url, open_container, select_decoder, video_stream

_LOGGER = logging.getLogger(__name__)
HWACCEL_CHOICES = ("auto", "off")
"""``auto`` decodes video and converts colours on the model's device if that is a GPU; ``off`` does not."""


def check_hwaccel(choice: str) -> None:
    """Refuse a value by ValueError that is not in `HWACCEL_CHOICES`."""
    if choice not in HWACCEL_CHOICES:
        raise ValueError(f"hwaccel is {choice!r}; it must be {' or '.join(HWACCEL_CHOICES)}")


def create_hwaccel(path: Path, device: torch.device) -> HWAccel | None:
    """The accelerator with which `open_video` decodes a file on a GPU; None, with a log line, if that does not work."""
    try:
        hwaccel = _open_device(device)
        # The caller has opened the file before, so an error here comes from the device.
        with open_container(file_url(path), hwaccel=hwaccel) as container:
            stream = video_stream(container, path)
            _check_frame(next(container.decode(stream)), device, is_hwaccel=select_decoder(stream).is_hwaccel)
    except (av.error.FFmpegError, RuntimeError, StopIteration, ValueError) as error:
        from_ffmpeg = isinstance(error, av.error.FFmpegError)
        reason = f"NVDEC does not open ({error.strerror})" if from_ffmpeg else str(error) or type(error).__name__
        _LOGGER.warning("%s is decoded on the processor, not on %s: %s", path, device, reason)
        return None
    return hwaccel


def _open_device(device: torch.device) -> HWAccel:
    if device.type not in hwdevices_available():
        raise ValueError(f"this build of FFmpeg decodes on {', '.join(hwdevices_available()) or 'no device'}")
    return HWAccel(device.type, str(device.index or 0), allow_software_fallback=False, is_hw_owned=True)


def _check_frame(frame: av.VideoFrame, device: torch.device, *, is_hwaccel: bool) -> None:
    """Refuse a frame by ValueError that was not decoded on the device, or is not 4:2:0."""
    if not is_hwaccel or frame.format.name != device.type:
        raise ValueError(f"it has no decoder for {frame.format.name} of this kind")
    luma, chroma = (plane_tensor(plane) for plane in frame.planes)
    covered_by_chroma = (2 * chroma.shape[0], 2 * chroma.shape[1])
    if not covered_by_chroma == luma.shape == (frame.height, frame.width):
        raise ValueError(f"its frames of {tuple(luma.shape)} with chroma of {tuple(chroma.shape)} are not 4:2:0")

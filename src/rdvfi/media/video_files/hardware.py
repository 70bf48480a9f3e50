"""Decoding on a device: NVDEC, by FFmpeg's CUDA path in PyAV.

Frames stay in the device's memory, and FFmpeg shares torch's context there. NVDEC takes most of H.264, HEVC, VP9,
MPEG-2 and MPEG-4 with 4:2:0; what it cannot do, and machines without it, decode on the processor, with one line in the
log that says why. So does AV1: PyAV opens it by libdav1d, which knows no device.
"""

import logging
from pathlib import Path

import av
import av.error
import torch
from av.codec.hwaccel import HWAccel, hwdevices_available

from rdvfi.media.planes import plane_tensor
from rdvfi.media.video_files.probe import decoder_of, file_url, video_stream

_LOGGER = logging.getLogger(__name__)
HWACCEL = ("auto", "off")
"""Whether video is decoded, and its colours are converted, on the device of the model, if that is a GPU."""


def check_hwaccel(choice: str) -> None:
    """Refuse what is none of `HWACCEL`.

    Raises:
        ValueError: If it is.
    """
    if choice not in HWACCEL:
        raise ValueError(f"hwaccel is {choice!r}; it must be {' or '.join(HWACCEL)}")


def create_hwaccel(path: Path, device: torch.device) -> HWAccel | None:
    """What `open_video` needs to decode a file on a device; None, and a line in the log, where that does not work."""
    try:
        found = _accelerator(device)
        # The file was opened before, so that what fails here is the device.
        with av.open(file_url(path), "r", metadata_errors="replace", hwaccel=found) as container:
            stream = video_stream(container, path)
            _check(next(container.decode(stream)), device, taken=decoder_of(stream).is_hwaccel)
    except (av.error.FFmpegError, RuntimeError, StopIteration, ValueError) as error:
        failed = isinstance(error, av.error.FFmpegError)
        reason = f"NVDEC does not open ({error.strerror})" if failed else str(error) or type(error).__name__
        _LOGGER.warning("%s is decoded on the processor, not on %s: %s", path, device, reason)
        return None
    return found


def _accelerator(device: torch.device) -> HWAccel:
    if device.type not in hwdevices_available():
        raise ValueError(f"this build of FFmpeg decodes on {', '.join(hwdevices_available()) or 'no device'}")
    return HWAccel(device.type, str(device.index or 0), allow_software_fallback=False, is_hw_owned=True)


def _check(frame: av.VideoFrame, device: torch.device, *, taken: bool) -> None:
    """Refuse what is not decoded as it will be used.

    Raises:
        ValueError: If the decoder is none of the device, or its frames are not 4:2:0.
    """
    if not taken or frame.format.name != device.type:
        raise ValueError(f"it has no decoder for {frame.format.name} of this kind")
    luma, chroma = (plane_tensor(plane) for plane in frame.planes)
    covered = (2 * chroma.shape[0], 2 * chroma.shape[1])
    if not covered == luma.shape == (frame.height, frame.width):
        raise ValueError(f"its frames of {tuple(luma.shape)} with chroma of {tuple(chroma.shape)} are not 4:2:0")

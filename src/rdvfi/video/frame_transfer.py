"""Transfer of frames from the decoder to the model, and from the model to the encoder.

Frames are copied to a GPU as the planes of the decoder, and back as the planes of the encoder: these have half the
bytes of RGB, and colours are converted on the GPU (`rdvfi.media.planes`). Copies overlap the computation
(`rdvfi.video.side_stream`): the decoding thread sends frames, and the encoding thread waits for them. On a CPU, and
where decoder or encoder have no such planes, RGB is copied (`rdvfi.media.colour`). Source frames and new frames are
handled alike.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from rdvfi.media.outputs.pieces import OutputFrame
from rdvfi.media.pixels import Pixels, composite, to_pixels, to_tensor
from rdvfi.media.planes import Planes, PlaneTarget
from rdvfi.media.reader import SourceFrame
from rdvfi.types import Image
from rdvfi.video.side_stream import CopiedTensors, SideStream


class DeviceFrame(SourceFrame):
    """A frame whose planes are being copied to the device; memory of a decoder there is released."""

    def __init__(self, frame: SourceFrame, copied: CopiedTensors) -> None:
        assert frame.planes is not None
        self._layout, self._copied = replace(frame.planes, planes=()), copied
        # Without a reference to itself: device memory would wait for Python's collection of cycles.
        pixels = partial(_convert, self._layout, copied) if frame.planes.planes[0].is_cuda else lambda: frame.pixels
        super().__init__(pixels, frame.stamp)

    def device_planes(self) -> Planes:
        """Its planes on the device, for work on the current stream."""
        return replace(self._layout, planes=self._copied.on_current_stream())


def _convert(layout: Planes, copied: CopiedTensors) -> Pixels:
    return to_pixels(replace(layout, planes=copied.on_current_stream()).rgb(torch.float32)[0], deep=layout.deep)


class FrameTransfer:
    """Copies the frames of one video to a device and back.

    Args:
        device: Device of the model.
        dtype: Type of its images.
        deep: Whether pixels have 16 bits per channel.
        target: Planes that the encoder takes; None if it takes pixels.
    """

    def __init__(
        self, device: torch.device, dtype: torch.dtype, *, deep: bool, target: PlaneTarget | None = None
    ) -> None:
        self._device, self._dtype, self._deep, self._target = device, dtype, deep, target
        self._incoming, self._outgoing, self._work = (SideStream(device) for _ in range(3))

    def compute_stream(self) -> AbstractContextManager[None]:
        """A context for the computation, which does not wait for copies of other frames."""
        return self._work.activate()

    def send(self, frames: Iterator[SourceFrame]) -> Iterator[SourceFrame]:
        """Start to copy each frame to the device."""
        for frame in frames:
            planes = frame.planes
            yield frame if planes is None else DeviceFrame(frame, self._incoming.send(planes.planes, self._device))

    def to_image(self, frame: SourceFrame) -> Image:
        """A source frame as input of the model."""
        if isinstance(frame, DeviceFrame):
            return frame.device_planes().rgb(self._dtype)
        return self.pixels_to_image(composite(frame.pixels))

    def pixels_to_image(self, pixels: Pixels) -> Image:
        """RGB pixels as input of the model."""
        return to_tensor(pixels, device=self._device, dtype=self._dtype)

    def source_output(self, frame: SourceFrame) -> OutputFrame:
        """A source frame for the encoder."""
        return frame.pixels if self._target is None else self.rendered_output(self.to_image(frame)[0])

    def rendered_output(self, frame: Float[Tensor, "_ H W"]) -> OutputFrame:
        """A frame that the model rendered, in [0, 1], for the encoder."""
        target = self._target
        if target is None:
            return to_pixels(frame, deep=self._deep)
        copied = self._outgoing.fetch((target.samples(frame),))
        return lambda: target.frame(*copied.wait())

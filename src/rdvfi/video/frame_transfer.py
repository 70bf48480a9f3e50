"""The way of frames from the decoder to the model, and from there to the encoder.

On a GPU a frame goes there as the planes of the decoder, and comes back as those of the encoder: half the bytes of RGB,
and colours are converted there (`rdvfi.media.planes`). Copies run beside the computation (`rdvfi.video.side_stream`):
frames are sent by the thread that decodes, and waited for by the one that encodes. Where decoder or encoder have no
such planes, and on a CPU, RGB goes (`rdvfi.media.colour`). Frames of the source and new ones go the same way.
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


class SentFrame(SourceFrame):
    """A frame whose planes are on their way to the device.

    Args:
        frame: The frame; what a decoder on the device made of it is let go.
        made: Its planes there.
    """

    def __init__(self, frame: SourceFrame, made: CopiedTensors) -> None:
        assert frame.planes is not None
        self._there, self._made = replace(frame.planes, stored=()), made
        # Without a reference to itself: its memory on the device would wait for Python's collection of cycles.
        pixels = partial(_shown, self._there, made) if frame.planes.stored[0].is_cuda else lambda: frame.pixels
        super().__init__(pixels, frame.stamp)

    def there(self) -> Planes:
        """Its planes on the device, for work of the current stream."""
        return replace(self._there, stored=self._made.here())


def _shown(meaning: Planes, made: CopiedTensors) -> Pixels:
    return to_pixels(replace(meaning, stored=made.here()).rgb(torch.float32)[0], deep=meaning.deep)


class FrameTransfer:
    """Frames of one film, to a device and back.

    Args:
        device: Where the model is.
        dtype: In which type it takes images.
        deep: Whether pixels have 16 bits a channel.
        target: What the encoder takes; None for pixels.
    """

    def __init__(
        self, device: torch.device, dtype: torch.dtype, *, deep: bool, target: PlaneTarget | None = None
    ) -> None:
        self._device, self._dtype, self._deep, self._target = device, dtype, deep, target
        self._incoming, self._outgoing, self._work = (SideStream(device) for _ in range(3))

    def working(self) -> AbstractContextManager[None]:
        """A block for the work on frames: it does not wait for copies of others."""
        return self._work.current()

    def sent(self, frames: Iterator[SourceFrame]) -> Iterator[SourceFrame]:
        """The frames, each on its way to the device."""
        for frame in frames:
            planes = frame.planes
            yield frame if planes is None else SentFrame(frame, self._incoming.send(planes.stored, self._device))

    def image(self, frame: SourceFrame) -> Image:
        """A frame for the model."""
        if isinstance(frame, SentFrame):
            return frame.there().rgb(self._dtype)
        return self.image_of(composite(frame.pixels))

    def image_of(self, pixels: Pixels) -> Image:
        """RGB pixels for the model."""
        return to_tensor(pixels, device=self._device, dtype=self._dtype)

    def shown(self, frame: SourceFrame) -> OutputFrame:
        """A frame of the source for the output."""
        return frame.pixels if self._target is None else self.drawn(self.image(frame)[0])

    def drawn(self, frame: Float[Tensor, "_ H W"]) -> OutputFrame:
        """A frame that the model made, in [0, 1], for the output."""
        target = self._target
        if target is None:
            return to_pixels(frame, deep=self._deep)
        made = self._outgoing.fetch((target.numbers(frame),))
        return lambda: target.frame(*made.wait())

"""What a file says of a frame beside its pixels."""

from typing import Any

import av
from av.sidedata.sidedata import Type


def side_data(frame: av.VideoFrame, kind: Type) -> bytes | None:
    """The bytes of this kind, as FFmpeg keeps them in memory; None if there are none."""
    kept: Any = frame.side_data
    return next((bytes(each) for each in kept if each.type is kind), None)

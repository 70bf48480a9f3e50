"""Side data of decoded frames."""

from typing import Any

import av
from av.sidedata.sidedata import Type


def _unknown(cls: type[Type], value: object) -> Type:
    """A kind without a name: FFmpeg knows more of them, as EXIF, and PyAV gives nothing at all where it meets one."""
    kind = object.__new__(cls)
    kind._name_, kind._value_ = f"UNKNOWN_{value}", value
    return kind


Type._missing_ = classmethod(_unknown)  # pyright: ignore[reportAttributeAccessIssue]


def side_data(frame: av.VideoFrame, kind: Type) -> bytes | None:
    """The bytes of this kind, as FFmpeg keeps them in memory; None if there are none."""
    kept: Any = frame.side_data
    return next((bytes(each) for each in kept if each.type is kind), None)

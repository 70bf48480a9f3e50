"""Side data of decoded frames."""

from typing import Any

import av
from av.sidedata.sidedata import Type


def _unnamed_type(cls: type[Type], value: object) -> Type:
    """A member for a type of side data that PyAV has no name for, such as EXIF."""
    member = object.__new__(cls)
    member._name_, member._value_ = f"UNKNOWN_{value}", value
    return member


if "_missing_" not in vars(Type):  # PyAV 18 returns no side data at all of a frame with one of an unnamed type
    Type._missing_ = classmethod(_unnamed_type)  # pyright: ignore[reportAttributeAccessIssue]


def side_data(frame: av.VideoFrame, kind: Type) -> bytes | None:
    """The bytes of a frame's side data of one type, in FFmpeg's memory layout; None if the frame has none."""
    entries: Any = frame.side_data
    entry = entries.get(kind)
    return None if entry is None else bytes(entry)

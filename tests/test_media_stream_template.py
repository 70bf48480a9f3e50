"""What containers say of a video track beside its codec."""

import struct
from pathlib import Path

import av
import numpy as np
import pytest

from test_media_encoding import _transcode

_ENTRY = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")


def _insert_box(path: Path, box: bytes) -> None:
    """Plant a box at the end of the description of the only track; the index stands behind the frames."""
    data, at, sizes = bytearray(path.read_bytes()), 0, []
    for name in _ENTRY:
        while data[at + 4 : at + 8] != name:
            at += int.from_bytes(data[at : at + 4], "big")
        sizes.append(at)
        at += 8
    sizes.append(at + 8)
    end = sizes[-1] + int.from_bytes(data[sizes[-1] : sizes[-1] + 4], "big")
    data[end:end] = box
    for place in sizes:
        data[place : place + 4] = (int.from_bytes(data[place : place + 4], "big") + len(box)).to_bytes(4, "big")
    path.write_bytes(data)


@pytest.mark.parametrize("dolby", [False, True])
@pytest.mark.parametrize("name", ["o.mp4", "o.mkv"])
def test_dolby_vision_signalled_by_the_container_alone_is_reported_as_left_out(tmp_path, name, dolby) -> None:
    """Profile 8.1 of level 3, as phones record it."""
    with av.open(str(tmp_path / "in.mp4"), "w") as container:
        stream = container.add_stream("libx265", rate=25, options={"x265-params": "log-level=none"})
        stream.width, stream.height, stream.pix_fmt, stream.codec_context.codec_tag = 64, 48, "yuv420p10le", "hvc1"
        for value in (20, 90, 160):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), value, np.uint8), format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p10le")))
        container.mux(stream.encode(None))
    if dolby:
        said = struct.pack(">BBHB", 1, 0, 8 << 9 | 3 << 3 | 0b101, 0x10) + bytes(19)
        _insert_box(tmp_path / "in.mp4", (8 + len(said)).to_bytes(4, "big") + b"dvvC" + said)
    told = ["Dolby Vision metadata cannot be written and is left out"] if dolby else []
    assert _transcode(tmp_path / "in.mp4", tmp_path / name) == told

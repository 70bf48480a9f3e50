"""Packets of a file in order, with discontinuous timestamps repaired and read errors counted.

Scanning, decoding and copying of tracks all read packets by this module, so that they agree on the time of each.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

import av
import av.error
from av.container import InputContainer

_TS_DISCONT = 0x0200
"""FFmpeg's flag of formats whose clock may start anew: MPEG transport and programme streams."""
_MAX_STEP_BACK, _MAX_STEP_AHEAD = Fraction(1, 10), Fraction(10)
"""Seconds; a larger step of the timestamps is a discontinuity."""
_MAX_CONSECUTIVE_ERRORS = 50


@dataclass
class Damage:
    """What could not be read from a file."""

    error_times: list[Fraction] = field(default_factory=list)
    """Seconds, each near a packet that could not be read or decoded."""
    truncation: tuple[Fraction, Fraction] | None = None
    """Seconds at which the file ends, and the later end in its header; None if they agree."""
    missing_frames: int = 0
    """Number of frames that were expected and not decoded."""

    def __bool__(self) -> bool:
        return bool(self.error_times or self.truncation or self.missing_frames)

    def describe(self) -> str:
        """One line, without the file's name."""
        parts = []
        if self.truncation is not None:
            end, declared = self.truncation
            parts.append(f"it ends after {float(end):.3f} s, its header says {float(declared):.3f} s")
        if self.error_times:
            times = list(dict.fromkeys(f"{float(time):.2f}" for time in self.error_times))
            more = f" and {len(times) - 5} more" if len(times) > 5 else ""
            plural = "place" if len(self.error_times) == 1 else "places"
            parts.append(f"{len(self.error_times)} {plural} cannot be read, near {', '.join(times[:5])} s{more}")
        if self.missing_frames:
            parts.append(f"{self.missing_frames} {'frame is' if self.missing_frames == 1 else 'frames are'} missing")
        return "; ".join(parts)


class PacketReader:
    """Iterates over all packets of a file, each with the seconds to add to its timestamps; errors go to ``damage``."""

    def __init__(self, container: InputContainer, damage: Damage) -> None:
        self._container = container
        self._damage = damage
        self.may_be_discontinuous = bool(container.format.flags & _TS_DISCONT)
        """Whether the clock of this format may start anew."""
        self._expected_dts: dict[int, Fraction] = {}
        self.shift = Fraction(0)
        """Seconds to add to the timestamps of the present packet."""
        self.latest_time = Fraction(0)
        """Latest time so far, in seconds."""

    def __iter__(self) -> Iterator[tuple[av.Packet, Fraction]]:
        for packet in self._demux():
            if self.may_be_discontinuous and packet.dts is not None:
                self._repair_discontinuity(packet)
            time = packet.dts if packet.dts is not None else packet.pts
            if time is not None:
                self.latest_time = max(self.latest_time, time * packet.time_base + self.shift)
            yield packet, self.shift

    def _demux(self) -> Iterator[av.Packet]:
        """Packets as they are stored; reading continues after an error, up to a number of errors in a row."""
        errors = 0
        while errors < _MAX_CONSECUTIVE_ERRORS:
            try:
                for packet in self._container.demux():
                    errors = 0
                    yield packet
                return
            except av.error.FFmpegError:
                if not errors:
                    self._damage.error_times.append(self.latest_time)
                errors += 1

    def _repair_discontinuity(self, packet: av.Packet) -> None:
        """Change the shift where the clock jumps, so that the packet follows the previous one of its track."""
        assert packet.dts is not None
        dts = packet.dts * packet.time_base + self.shift
        expected = self._expected_dts.get(packet.stream.index)
        if expected is not None and not -_MAX_STEP_BACK <= dts - expected <= _MAX_STEP_AHEAD:
            self.shift += expected - dts
            dts = expected
        self._expected_dts[packet.stream.index] = dts + (packet.duration or 0) * packet.time_base

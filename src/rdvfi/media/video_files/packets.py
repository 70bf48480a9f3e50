"""Packets of a file in order: jumping timestamps are repaired, damage is skipped and counted.

Everybody who reads packets, to look a file through, to decode it or to copy its tracks, reads them
here, so that all agree on the time of each.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

import av
import av.error
from av.container import InputContainer

_MAY_JUMP = 0x0200
"""FFmpeg's flag of formats whose clock may start anew: MPEG transport and programme streams."""
_BACK, _AHEAD = Fraction(1, 10), Fraction(10)
"""Seconds from which on a step of the clock, back or ahead, is taken for a jump."""
_MOST_TRIES = 50
"""Reading goes on after an error, until so many follow each other."""


@dataclass
class Damage:
    """What could not be read, and about where."""

    times: list[Fraction] = field(default_factory=list)
    """Seconds, each near something that could not be read or decoded."""
    ends: tuple[Fraction, Fraction] | None = None
    """Where the file ends and where its header says so, if that is later."""
    missing: int = 0
    """Frames that were promised and are not there."""

    def __bool__(self) -> bool:
        return bool(self.times or self.ends or self.missing)

    def describe(self) -> str:
        """In one line, without the file's name."""
        parts = []
        if self.ends is not None:
            parts.append(f"it ends after {float(self.ends[0]):.3f} s, its header says {float(self.ends[1]):.3f} s")
        if self.times:
            spots = list(dict.fromkeys(f"{float(time):.2f}" for time in self.times))
            more = f" and {len(spots) - 5} more" if len(spots) > 5 else ""
            plural = "place" if len(self.times) == 1 else "places"
            parts.append(f"{len(self.times)} {plural} cannot be read, near {', '.join(spots[:5])} s{more}")
        if self.missing:
            parts.append(f"{self.missing} {'frame is' if self.missing == 1 else 'frames are'} missing")
        return "; ".join(parts)


class Packets:
    """All packets of a file, each with what has to be added to its times."""

    def __init__(self, container: InputContainer, damage: Damage) -> None:
        self._container = container
        self._damage = damage
        self.may_jump = bool(container.format.flags & _MAY_JUMP)
        """Whether the clock of this format may start anew."""
        self._due: dict[int, Fraction] = {}
        self.shift = Fraction(0)
        """Seconds to add to the times of the present packet."""
        self.last = Fraction(0)
        """The latest time that was met."""

    def __iter__(self) -> Iterator[tuple[av.Packet, Fraction]]:
        for packet in self._packets():
            if self.may_jump and packet.dts is not None:
                self._follow(packet)
            time = packet.dts if packet.dts is not None else packet.pts
            if time is not None:
                self.last = max(self.last, time * packet.time_base + self.shift)
            yield packet, self.shift

    def _packets(self) -> Iterator[av.Packet]:
        failed = 0
        while failed < _MOST_TRIES:
            try:
                for packet in self._container.demux():
                    failed = 0
                    yield packet
                return
            except av.error.FFmpegError:
                if not failed:
                    self._damage.times.append(self.last)
                failed += 1

    def _follow(self, packet: av.Packet) -> None:
        """Move the clock where it jumps: the packet then follows the one before of its track."""
        assert packet.dts is not None
        time = packet.dts * packet.time_base + self.shift
        due = self._due.get(packet.stream.index)
        if due is not None and not -_BACK <= time - due <= _AHEAD:
            self.shift += due - time
            time = due
        self._due[packet.stream.index] = time + (packet.duration or 0) * packet.time_base

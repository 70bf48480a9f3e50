"""Time stretching of sound at constant pitch, by FFmpeg's filter ``atempo``."""

from collections.abc import Iterator
from fractions import Fraction

import av
import av.error
from av.filter import Graph

MOST_STRETCHED = 100
"""How many times longer or shorter sound may become."""
_SLOWEST, _FASTEST = Fraction(1, 2), Fraction(100)
"""What one filter does; several in a row do more."""


class Stretcher:
    """Stretches sound of one format in time."""

    def __init__(self, like: av.AudioFrame, slowdown: Fraction) -> None:
        self._rate, self._read = like.sample_rate, 0
        self._graph = Graph()
        self._begin = self._graph.add_abuffer(
            sample_rate=like.sample_rate,
            format=like.format.name,
            layout=like.layout.name,
            time_base=Fraction(1, like.sample_rate),
        )
        filters = [self._graph.add("atempo", str(float(tempo))) for tempo in _tempos(1 / slowdown)]
        self._graph.link_nodes(self._begin, *filters, self._graph.add("abuffersink")).configure()

    def push(self, frame: av.AudioFrame | None) -> Iterator[av.AudioFrame]:
        """Sound in, stretched sound out; None at the end gets what is held back."""
        if frame is not None:
            frame.pts, frame.time_base = self._read, Fraction(1, self._rate)
            self._read += frame.samples
        self._begin.push(frame)
        while True:
            try:
                stretched = self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            assert isinstance(stretched, av.AudioFrame)
            stretched.pts = None
            yield stretched


def _tempos(tempo: Fraction) -> Iterator[Fraction]:
    """Factors that one filter each does, whose product is the tempo."""
    while tempo < _SLOWEST:
        yield _SLOWEST
        tempo /= _SLOWEST
    while tempo > _FASTEST:
        yield _FASTEST
        tempo /= _FASTEST
    yield tempo

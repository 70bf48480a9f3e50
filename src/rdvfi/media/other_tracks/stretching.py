"""Time stretching of audio at constant pitch, by FFmpeg's filter ``atempo``."""

from collections.abc import Iterator
from fractions import Fraction

import av
import av.error
from av.filter import Graph

MAX_STRETCH = 100
"""Largest factor by which audio is slowed down or sped up."""
_MIN_TEMPO, _MAX_TEMPO = Fraction(1, 2), Fraction(100)
"""Range of one filter; several in a row do more."""


class TimeStretcher:
    """Makes audio ``slowdown`` times longer; all frames have the format of ``frame``."""

    def __init__(self, frame: av.AudioFrame, slowdown: Fraction) -> None:
        self._rate, self._samples_in = frame.sample_rate, 0
        self._graph = Graph()
        self._source = self._graph.add_abuffer(
            sample_rate=frame.sample_rate,
            format=frame.format.name,
            layout=frame.layout.name,
            time_base=Fraction(1, frame.sample_rate),
        )
        filters = [self._graph.add("atempo", str(float(tempo))) for tempo in _split_tempo(1 / slowdown)]
        self._graph.link_nodes(self._source, *filters, self._graph.add("abuffersink")).configure()

    def push(self, frame: av.AudioFrame | None) -> Iterator[av.AudioFrame]:
        """Add a frame, or None at the end; yields the stretched frames that are ready."""
        if frame is not None:
            frame.pts, frame.time_base = self._samples_in, Fraction(1, self._rate)
            self._samples_in += frame.samples
        self._source.push(frame)
        while True:
            try:
                stretched = self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            assert isinstance(stretched, av.AudioFrame)
            stretched.pts = None
            yield stretched


def _split_tempo(tempo: Fraction) -> Iterator[Fraction]:
    """Factors in the range of one filter, whose product is ``tempo``."""
    while tempo < _MIN_TEMPO:
        yield _MIN_TEMPO
        tempo /= _MIN_TEMPO
    while tempo > _MAX_TEMPO:
        yield _MAX_TEMPO
        tempo /= _MAX_TEMPO
    yield tempo

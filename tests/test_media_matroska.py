"""The shape of pixels as Matroska says it."""

from fractions import Fraction

import pytest

from rdvfi.media.metadata.matroska import display_size


@pytest.mark.parametrize("size", [(64, 48), (720, 480), (720, 576), (160, 96), (1440, 1080), (1920, 1080)])
@pytest.mark.parametrize("aspect", ["16/15", "10/11", "12/11", "40/33", "64/45", "4/3", "1/2", "2/1", "3000/2999", "1"])
def test_the_display_size_has_exactly_the_shape(size, aspect) -> None:
    width, height, unit = display_size(*size, Fraction(aspect))
    assert Fraction(width, height) == Fraction(*size) * Fraction(aspect)
    assert 0.75 <= height / size[1] <= 1.5 or unit == 3
    assert unit == 0 or size == (64, 48) or aspect == "3000/2999"

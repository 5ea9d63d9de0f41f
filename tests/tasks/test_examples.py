import io

import pytest
from PIL import Image

from crosshead.tasks.examples import SHOWN, chosen, png


@pytest.mark.parametrize("count", [1, 2, 4, 5, 6, 7, 11, 100, 4952])
def test_as_many_as_there_is_room_for_are_chosen_spread_and_in_order(count):
    positions = chosen(count)
    assert len(set(positions)) == min(count, SHOWN)
    assert positions == sorted(positions)
    assert positions[0] >= 0
    assert positions[-1] < count
    # Neither end is preferred.
    assert abs(positions[0] - (count - 1 - positions[-1])) <= 1


def test_of_nothing_nothing_is_chosen():
    assert chosen(0) == []


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16"])
def test_an_image_becomes_a_png_file_that_loses_nothing(mode):
    image = Image.new(mode, (3, 2))
    image.putpixel((2, 1), (1, 2, 3) if mode == "RGB" else 200)
    with Image.open(io.BytesIO(png(image))) as read:
        assert read.format == "PNG"
        assert read.size == (3, 2)
        assert read.tobytes() == image.tobytes()

import numpy as np
import pytest
from PIL import Image

from crosshead.tasks.segment.colours import find_colours

PIXELS = np.array([[[0, 0, 0], [250, 50, 83]], [[128, 0, 128], [0, 0, 0]]], np.uint8)
MAPS = {
    "labelmap.txt": "# label:color_rgb:parts:actions\nbackground:0,0,0::\nlow: "
    "car:250,50,83::\nbus:128,0,128::\n",
    "class_dict.csv": "name,r,g,b\nbackground,0,0,0\nlow: car,250,50,83\nbus, 128, 0, 128\n",
    "label_colors.txt": "0 0 0 background\n250 50 83\tlow: car\n128 0 128 bus\n",
}


@pytest.fixture
def write(tmp_path):
    """Writes a colour map, and the label image as it is in a mode."""

    def call(text=MAPS["labelmap.txt"], *, name="labelmap.txt", mode="RGB"):
        (tmp_path / name).write_text(text)
        # With a palette of its own a small image keeps its colours.
        Image.fromarray(PIXELS).convert(mode, palette=Image.Palette.ADAPTIVE).save(tmp_path / "label.png")
        return tmp_path

    return call


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
@pytest.mark.parametrize("name", MAPS)
def test_each_colour_is_the_class_that_the_map_says(write, name, mode):
    root = write(MAPS[name], name=name, mode=mode)
    legend = find_colours(root)
    assert legend is not None
    assert legend.classes == ("background", "low: car", "bus")
    labels = legend.read(root / "label.png")
    assert (labels.dtype, labels.tolist()) == (np.uint8, [[0, 1], [2, 0]])


def test_the_borders_of_voc_are_ignored(write):
    root = write()
    Image.new("RGB", (1, 1), (224, 224, 192)).save(root / "label.png")
    legend = find_colours(root)
    assert legend is not None
    assert legend.read(root / "label.png").tolist() == [[255]]


def test_a_colour_that_the_map_lacks_is_named_with_its_place(write, refused):
    root = write("background:0,0,0::\ncar:250,50,83::")
    legend = find_colours(root)
    assert legend is not None
    words = f"colour (128, 0, 128) at column 0, row 1 is not in {root}/labelmap.txt; add it there"
    refused(lambda: legend.read(root / "label.png"), root / "label.png", words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a:0,0,0::", "1 classes with a colour"),
        ("a:0,0,0::\nb:0,0,256::", "line 2: no class with three numbers of 0..255"),
        ("a:0,0,0::\nb:0,0::", "line 2: no class with three numbers"),
        ("a:0,0,0::\nb", "line 2: no class with three numbers"),
        ("a:0,0,0::\n\nb:0,0,0::", "line 3: its class or colour is there twice"),
        ("a:0,0,0::\na:0,0,1::", "line 2: its class or colour is there twice"),
    ],
)
def test_a_map_that_cannot_be_used_is_refused_by_its_line(write, refused, text, words):
    root = write(text)
    refused(lambda: find_colours(root), root / "labelmap.txt", words)


def test_there_may_be_no_map(tmp_path):
    assert find_colours(tmp_path) is None

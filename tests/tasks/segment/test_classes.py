import os
import time

import numpy as np
import pytest
from PIL import Image

from crosshead.tasks.segment.classes import find_classes, find_legend, read_class_names


@pytest.fixture
def names_file(tmp_path):
    def write(content: bytes):
        path = tmp_path / "classes.txt"
        path.write_bytes(content)
        return path

    return write


def labels_of(root):
    return sorted(root.glob("*/labels/*"))


def test_given_names_come_first_then_the_file_then_the_values(write_labels, recipe_of):
    root = write_labels(train={"a": [[0, 4]], "bb": [[9, 255]]})
    names, table = find_classes(recipe_of(root), labels_of(root))
    assert (names, table[[0, 4, 9, 255, 1]].tolist()) == (("0", "4", "9"), [0, 1, 2, 255, -1])
    (root / "classes.txt").write_text("sky\n sea \n\n")
    names, table = find_classes(recipe_of(root), labels_of(root))
    assert (names, table[[0, 1, 2, 255]].tolist()) == (("sky", "sea"), [0, 1, -1, 255])
    assert find_classes(recipe_of(root, class_names=("x", "y", "z")), [])[0] == ("x", "y", "z")


def test_a_binary_mask_of_0_and_255_has_two_classes(write_labels, recipe_of):
    root = write_labels(train={"a": [[0, 255]]})
    for ignored in (255, None):
        names, table = find_classes(recipe_of(root, ignore_index=ignored), labels_of(root))
        assert (names, table[[0, 255, 1]].tolist()) == (("background", "foreground"), [0, 1, -1])
    (root / "classes.txt").write_text("plate\ncell\n")
    names, table = find_classes(recipe_of(root), labels_of(root))
    assert (names, table[[0, 255, 1]].tolist()) == (("plate", "cell"), [0, 1, -1])
    # Beside a third value 255 is what it always is.
    Image.fromarray(np.array([[1, 255]], np.uint8)).save(root / "train" / "labels" / "a.png")
    assert find_classes(recipe_of(root), labels_of(root))[1][[0, 1, 255]].tolist() == [0, 1, 255]


def test_labels_of_one_value_are_refused(write_labels, refused, recipe_of):
    root = write_labels(train={"a": [[7, 7]]})
    words = "hold 1 classes (7) beside 255, which is ignored (ignore_index)"
    refused(lambda: find_classes(recipe_of(root), labels_of(root)), root, words, "classes.txt")


def test_with_reduced_zero_classes_begin_at_one(tmp_path, recipe_of):
    recipe = recipe_of(tmp_path, class_names=("a", "b"), reduce_zero_label=True)
    assert find_classes(recipe, [])[1][[0, 1, 2, 3, 255]].tolist() == [255, 0, 1, -1, 255]


@pytest.mark.parametrize("choices", [{"ignore_index": 1}, {"ignore_index": 2, "reduce_zero_label": True}])
def test_an_ignored_value_of_a_named_class_is_refused(tmp_path, recipe_of, choices):
    recipe = recipe_of(tmp_path, class_names=("a", "b"), **choices)
    with pytest.raises(ValueError, match=r"^ignore_index is [12], that of 'b': give None"):
        find_classes(recipe, [])


def test_more_classes_than_16_bits_tell_apart_are_refused_at_once(tmp_path, refused, recipe_of, names_file):
    names_file("\n".join(map(str, range(70_000))).encode())
    start = time.perf_counter()
    refused(lambda: find_classes(recipe_of(tmp_path), []), tmp_path, "70000 classes", "name 65535 at most")
    assert time.perf_counter() - start < 5
    names = tuple(map(str, range(65_535)))
    _, table = find_classes(recipe_of(tmp_path, class_names=names, ignore_index=None), [])
    assert table[[0, 65_534, 65_535]].tolist() == [0, 65_534, -1]


def test_values_are_those_of_all_files(write_labels, recipe_of):
    root = write_labels(train={"a": [[3, 1]]}, val={"b": [[255, 2]]})
    assert find_classes(recipe_of(root), labels_of(root))[0] == ("1", "2", "3")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "names 0 classes; write two or more"),
        (b"\n\n", "names 1 classes"),
        (b"sky\n", "names 1 classes"),
        (b"sky\nsea\nsky\n", "line 3 again names 'sky'"),
        (b"sky\n\nsea\n", "line 2 names nothing"),
        (b"sky\n\xff\xff\n", "not readable as text"),
        ("sky\nsea\n".encode("utf-16"), "not readable as text"),
        (b"PK\x03\x04\x00\x00\nsea\n", "not a list of names"),
        (b"x" * (1 << 24), "not a list of names"),
    ],
)
def test_a_file_of_names_that_cannot_be_used_is_refused(names_file, refused, content, words):
    path = names_file(content)
    refused(lambda: read_class_names(path), path, words)


def test_a_pipe_or_a_folder_in_place_of_the_file_of_names_is_refused(tmp_path, refused, recipe_of):
    path = tmp_path / "classes.txt"
    os.mkfifo(path)
    refused(lambda: find_classes(recipe_of(tmp_path), []), path, "not a regular file")
    path.unlink()
    path.mkdir()
    refused(lambda: find_classes(recipe_of(tmp_path), []), path, "not a regular file")


def test_names_keep_every_character_but_the_spaces_around_them(names_file):
    content = "\ufeffred \x1b[31m\r\n\ta\x0bb\x85c\u2028d\r\n  two words\x1c\r\n\r\n".encode()
    assert read_class_names(names_file(content)) == ("red \x1b[31m", "a\x0bb\x85c\u2028d", "two words\x1c")


def test_roboflows_table_gives_values_and_names(write_labels, recipe_of):
    root = write_labels(train={"a": [[0, 4]]})
    (root / "train" / "_classes.csv").write_text("Pixel Value, Class\n0, background\n4, cell\n255, edge\n")
    names, table = find_classes(recipe_of(root), labels_of(root))
    assert (names, table[[0, 4, 255, 1]].tolist()) == (("background", "cell", "edge"), [0, 1, 2, -1])


@pytest.mark.parametrize(
    "text", ["value,name\n", "value,name\n0,a\n", "value,name\n0,a\nx,b\n", "0,a\n1,b,c\n"]
)
def test_a_table_that_is_none_is_refused(write_labels, recipe_of, refused, text):
    root = write_labels(train={"a": [[0, 4]]})
    (root / "_classes.csv").write_text(text)
    refused(lambda: find_classes(recipe_of(root), labels_of(root)), root / "_classes.csv")


def test_a_colour_map_says_what_colours_are_and_names_what_values_are(write_labels, recipe_of):
    root = write_labels(train={"a": [[0, 1], [255, 1]]})
    (root / "class_dict.csv").write_text("name,r,g,b\nsky,0,0,0\nsea,9,8,7\n")
    legend = find_legend(recipe_of(root), labels_of(root))
    assert legend.classes == ("sky", "sea")
    assert legend.read(labels_of(root)[0]).tolist() == [[0, 1], [255, 1]]
    colours = np.array([[[0, 0, 0], [9, 8, 7]], [[9, 8, 7], [9, 8, 7]]], np.uint8)
    Image.fromarray(colours).save(root / "train" / "labels" / "a.png")
    legend = find_legend(recipe_of(root), labels_of(root))
    assert legend.read(labels_of(root)[0]).tolist() == [[0, 1], [1, 1]]

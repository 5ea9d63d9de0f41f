import os
import time

import numpy as np
import pytest
from PIL import Image

from crosshead.tasks.segment.labels import (
    find_classes,
    ignored_label,
    label_table,
    read_class_names,
    read_label_image,
    read_labels,
)


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


def test_a_binary_mask_of_0_and_255_has_two_classes_where_nothing_is_ignored(
    write_labels, refused, recipe_of
):
    root = write_labels(train={"a": [[0, 255]]})
    names, table = find_classes(recipe_of(root, ignore_index=None), labels_of(root))
    assert (names, table[[0, 255]].tolist()) == (("0", "255"), [0, 1])
    refused(
        lambda: find_classes(recipe_of(root), labels_of(root)),
        root,
        "hold 1 classes (0) beside 255, which is ignored (ignore_index)",
        "classes.txt",
    )


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


def test_grey_palette_bilevel_and_16_bit_files_keep_their_values(tmp_path):
    values = np.array([[0, 1, 200], [7, 255, 3]], np.uint8)
    path = tmp_path / "labels.png"
    Image.fromarray(values).save(path)
    assert np.array_equal(read_label_image(path), values)
    palette = Image.fromarray(values)
    palette.putpalette([number * 7 % 256 for number in range(768)])
    assert palette.mode == "P"
    palette.save(path)
    assert np.array_equal(read_label_image(path), values)
    Image.fromarray(values > 5).save(path)
    assert read_label_image(path).tolist() == [[0, 0, 1], [1, 1, 0]]
    Image.fromarray(np.array([[0, 300], [65_535, 2]], np.uint16)).save(path)
    wide = read_label_image(path)
    assert (wide.dtype, wide.tolist()) == (np.uint16, [[0, 300], [65_535, 2]])


@pytest.mark.parametrize(
    ("name", "mode", "words"),
    [
        ("a.png", "RGB", "mode RGB, not labels; save class indices as a grey or palette PNG"),
        ("a.png", "RGBA", "mode RGBA, not labels"),
        ("a.png", "LA", "mode LA, not labels"),
        ("a.tif", "F", "mode F, not labels"),
        ("a.jpg", "L", "a JPEG, which does not keep label values"),
    ],
)
def test_files_that_hold_no_labels_are_refused(tmp_path, refused, name, mode, words):
    Image.new(mode, (3, 2)).save(tmp_path / name)
    refused(lambda: read_label_image(tmp_path / name), tmp_path / name, words)


def test_unreadable_files_are_refused(tmp_path, refused):
    path = tmp_path / "a.png"
    refused(lambda: read_label_image(path), path, "not readable as a label image (No such file")
    path.write_bytes(b"broken")
    refused(lambda: read_label_image(path), path, "repair or replace the file, or leave it out")


def test_values_of_more_than_16_bits_are_refused(tmp_path, refused):
    path = tmp_path / "a.tif"
    Image.fromarray(np.array([[70_000]], np.int32)).save(path)
    refused(lambda: read_label_image(path), path, "label values up to 70000")


def test_values_become_labels_by_the_table(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.array([[10, 20, 0, 30]], np.uint8)).save(path)
    labels = read_labels(path, table=label_table([10, 20, 30], ignored=[0]))
    assert (labels.dtype, labels.tolist()) == (np.uint8, [[0, 1, 255, 2]])


def test_more_than_255_classes_need_16_bits(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.array([[255, 299, 400]], np.uint16)).save(path)
    labels = read_labels(path, table=label_table(range(300), ignored=[400]))
    assert (labels.dtype, labels.tolist()) == (np.uint16, [[255, 299, 65_535]])


def test_a_value_of_no_class_is_refused_with_its_place(tmp_path, refused):
    path = tmp_path / "a.png"
    Image.fromarray(np.array([[0, 1, 2], [2, 9, 255]], np.uint8)).save(path)
    table = label_table(range(3), ignored=[255])
    refused(lambda: read_labels(path, table=table), path, "value 9 at column 1, row 1", "known are 0..2, 255")


def test_the_ignored_label_is_no_label_of_a_class():
    assert [ignored_label(number) for number in (2, 255, 256, 60_000)] == [255, 255, 65_535, 65_535]

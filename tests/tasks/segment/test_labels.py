import numpy as np
import pytest
from PIL import Image

from crosshead.tasks.segment.labels import ignored_label, label_table, read_label_image, read_labels


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
        ("a.tif", "F", "mode F, not labels; save class indices as a grey or palette PNG"),
        ("a.tif", "CMYK", "mode CMYK, not labels"),
        ("a.jpg", "L", "a JPEG, which does not keep label values"),
    ],
)
def test_files_that_hold_no_labels_are_refused(tmp_path, refused, name, mode, words):
    Image.new(mode, (3, 2)).save(tmp_path / name)
    refused(lambda: read_label_image(tmp_path / name), tmp_path / name, words)


def test_grey_that_is_saved_in_colour_is_grey(tmp_path):
    values = np.array([[0, 1, 200], [7, 255, 3]], np.uint8)
    path = tmp_path / "labels.png"
    for mode in ("RGB", "RGBA", "LA"):
        image = Image.fromarray(values).convert(mode)
        if mode != "RGB":
            image.putalpha(Image.fromarray(values))
        image.save(path)
        assert np.array_equal(read_label_image(path), values)


def test_colours_without_a_map_are_refused(tmp_path, refused):
    path = tmp_path / "labels.png"
    Image.new("RGB", (3, 2), (1, 2, 1)).save(path)
    refused(lambda: read_label_image(path), path, "colours, and no colour map in the folder", "labelmap.txt")


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

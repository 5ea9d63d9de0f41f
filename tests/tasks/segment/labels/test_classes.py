import pytest

from crosshead.tasks.segment.labels.classes import find_classes, find_values, read_class_names
from crosshead.tasks.segment.labels.layout import pair_labels


def pairs_of(root):
    return [pair_labels(root / "train" / "images", root / "train" / "labels")]


def test_given_names_come_first_then_the_file_then_the_values(write_labels):
    root = write_labels(train={"a": [[0, 4]], "bb": [[9, 255]]})

    def find(**options):
        return find_classes(root, pairs_of(root), **{"classes": None, "ignore_index": 255, **options})

    names, table = find()
    assert (names, table[[0, 4, 9, 255, 1]].tolist()) == (("0", "4", "9"), [0, 1, 2, 255, -1])
    (root / "classes.txt").write_text("sky\n sea \n\n")
    names, table = find()
    assert (names, table[[0, 1, 2, 255]].tolist()) == (("sky", "sea"), [0, 1, -1, 255])
    assert find(classes=("x", "y", "z"))[0] == ("x", "y", "z")


def test_a_binary_mask_of_0_and_255_has_two_classes_where_nothing_is_ignored(write_labels, refused):
    root = write_labels(train={"a": [[0, 255]]})
    names, table = find_classes(root, pairs_of(root), classes=None, ignore_index=None)
    assert (names, table[[0, 255]].tolist()) == (("0", "255"), [0, 1])
    refused(
        lambda: find_classes(root, pairs_of(root), classes=None, ignore_index=255),
        root,
        "hold 1 classes (0,) beside 255, which is ignored (ignore_index)",
        "classes.txt",
    )


def test_with_reduced_zero_classes_begin_at_one(tmp_path):
    _, table = find_classes(tmp_path, [], classes=("a", "b"), ignore_index=255, reduce_zero_label=True)
    assert table[[0, 1, 2, 3, 255]].tolist() == [255, 0, 1, -1, 255]


def test_an_ignored_value_of_a_named_class_is_refused(tmp_path):
    with pytest.raises(ValueError, match="ignore_index is 1, that of 'b'; give None"):
        find_classes(tmp_path, [], classes=("a", "b"), ignore_index=1)
    with pytest.raises(ValueError, match=r"ignore_index is 70000; give a value of 0\.\.65535"):
        find_classes(tmp_path, [], classes=("a", "b"), ignore_index=70_000)


def test_values_are_those_of_all_files(write_labels):
    root = write_labels(train={"a": [[3, 1]], "b": [[255, 2]]})
    assert find_values(pairs_of(root)[0].labels, ignored=[255]) == (1, 2, 3)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "names 0 classes; write two or more"),
        (b"sky\n", "names 1 classes"),
        (b"sky\nsea\nsky\n", "line 3 again names 'sky'"),
        (b"sky\n\nsea\n", "line 2 names nothing"),
        (b"sky\n\xff\xff\n", "not readable as text"),
    ],
)
def test_a_file_of_names_that_cannot_be_used_is_refused(tmp_path, refused, content, words):
    path = tmp_path / "classes.txt"
    path.write_bytes(content)
    refused(lambda: read_class_names(path), path, words)

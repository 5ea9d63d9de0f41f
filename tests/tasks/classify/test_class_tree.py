import errno
import logging
import os
from pathlib import Path

import pytest

from crosshead.tasks.classify.class_tree import ClassTree, differences, read_class_tree


def tree(root="train", **counts):
    files = {name: [f"{root}/{name}/{n}.jpg" for n in range(count)] for name, count in counts.items()}
    return ClassTree(root=Path(root), files=files, ignored=[])


def test_classes_and_files_are_in_alphabetical_order_at_any_depth(write_images):
    root = write_images("b/9.png", "b/10.png", "a/y/1.jpg", "a/x/2.JPG", "a/x/1.jpeg", "c/1.webp")
    (root / "b" / "notes.txt").touch()
    (root / "loose.jpg").touch()
    found = read_class_tree(root)
    assert found.classes == ("a", "b", "c")
    relative = {
        name: [str(Path(path).relative_to(root / name)) for path in paths]
        for name, paths in found.files.items()
    }
    assert relative == {"a": ["x/1.jpeg", "x/2.JPG", "y/1.jpg"], "b": ["10.png", "9.png"], "c": ["1.webp"]}
    assert found.ignored == [str(root / "b" / "notes.txt"), str(root / "loose.jpg")]
    paths, labels = found.samples()
    assert labels.tolist() == [0, 0, 0, 1, 1, 2]
    assert [Path(path).relative_to(root).parts[0] for path in paths] == ["a", "a", "a", "b", "b", "c"]


def test_hidden_files_and_folders_are_passed_over(write_images):
    root = write_images("a/1.jpg", "a/._1.jpg", "a/.thumbs/1.jpg", ".cache/1.jpg", "__MACOSX/1.jpg", ".x.jpg")
    found = read_class_tree(root)
    assert (found.classes, len(found.files["a"]), found.ignored) == (("a",), 1, [])


def test_class_folders_may_be_links(write_images, tmp_path):
    root = write_images("elsewhere/1.jpg", "elsewhere/2.jpg")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "cat").symlink_to(root / "elsewhere")
    assert len(read_class_tree(tmp_path / "linked").files["cat"]) == 2


def test_a_folder_that_cannot_be_listed_is_refused(write_images, refused, monkeypatch):
    root = write_images("a/1.jpg", "b/1.jpg")

    def scandir(path, listed=os.scandir):
        if Path(path) == root:  # from Python 3.13 on iterdir goes this way, too
            return listed(path)
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir", scandir)
    refused(lambda: read_class_tree(root), root / "a", "Permission denied", "check the folder")


def test_a_circle_of_links_is_refused_and_not_followed_for_ever(write_images, refused):
    root = write_images("a/1.jpg")
    (root / "a" / "again").symlink_to(root / "a")
    refused(lambda: read_class_tree(root), root / "a" / "again", "links back", "leave the link out")


@pytest.mark.parametrize(
    ("found", "minimum", "path", "words"),
    [
        (tree(), 1, "train", ("no class folders", "into a folder named after the class")),
        (tree(cat=3), 1, "train", ("only one class folder, cat", "into a folder named after")),
        (
            tree(cat=3, dog=0),
            1,
            Path("train/dog"),
            ("no image in this class folder", "add images or leave it out"),
        ),
        (tree(cat=3, dog=1), 2, Path("train/dog"), ("1 image", "2 are needed to hold one out", "add images")),
    ],
)
def test_a_tree_that_cannot_be_used_is_refused(refused, found, minimum, path, words):
    refused(lambda: found.check(minimum=minimum), path, *words)


def test_all_findings_are_listed():
    assert len(list(tree(cat=3, cow=0, dog=1, fox=0).findings(minimum=2))) == 3
    assert list(tree(cat=3, dog=1).findings()) == []


def test_ignored_files_are_counted_in_one_warning(caplog):
    found = ClassTree(
        root=Path("train"), files={"a": ["1"], "b": ["2"]}, ignored=["train/x.txt", "train/y.txt"]
    )
    with caplog.at_level(logging.WARNING):
        found.check()
    assert len(caplog.messages) == 1
    assert "2 files ignored" in caplog.messages[0]
    assert "train/x.txt" in caplog.messages[0]


def test_classes_that_one_split_lacks_are_listed_both_ways():
    lines = list(differences(tree("train", ant=1, bee=1), tree("val", bee=1, cow=1)))
    assert len(lines) == 2
    assert lines[0].startswith(f"{Path('val/ant')}: no such class folder")
    assert lines[1].startswith(f"{Path('train/cow')}: no such class folder")

import errno
import os
from pathlib import Path

import pytest

from crosshead.tasks.classify.class_tree import ClassTree, findings, read_class_tree


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
    ("trees", "lines"),
    [
        ({"train": tree()}, ["train: no class folders; put the images of each class into a folder named"]),
        ({"train": tree(cat=3)}, ["train: only one class folder, cat; put the images of each class into a"]),
        (
            {"train": tree(cat=3, cow=0, dog=1, fox=0)},
            [
                f"{Path('train/cow')}: no image in this class folder; add images or leave it out",
                f"{Path('train/dog')}: 1 image in this class folder, and 2 are needed to hold one out; add",
                f"{Path('train/fox')}: no image in this class folder; add images or leave it out",
            ],
        ),
        ({"train": tree(cat=3, dog=1), "test": tree("val", cat=1, dog=1)}, []),
        (
            {
                "train": tree(ant=1, bee=1),
                "val": tree("val", bee=1, cow=1),
                "test": tree("test", ant=0, bee=1),
            },
            [
                f"{Path('val/ant')}: no such class folder, though {Path('train/ant')} exists; both splits",
                f"{Path('train/cow')}: no such class folder, though {Path('val/cow')} exists; both splits",
                f"{Path('test/ant')}: no image in this class folder; add images or leave it out",
            ],
        ),
    ],
)
def test_what_makes_splits_unusable_is_listed_a_line_each(trees, lines):
    found = list(findings(trees))
    assert len(found) == len(lines)
    assert all(line.startswith(start) for line, start in zip(found, lines, strict=True))

import os

import pytest
from PIL import Image

from crosshead.tasks.segment.folders import find_label_files, has_label_images, pair_labels


@pytest.fixture
def files(tmp_path):
    """Writes flat images, and other files of a letter."""

    def write(*names, size=(4, 3)):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix.lower() in Image.registered_extensions():
                Image.new("L", size).save(path)
            else:
                path.write_text("x")
        return tmp_path

    return write


@pytest.fixture
def places(recipe_of):
    """Where the splits of a folder are found: of images and of labels, below the folder."""

    def find(root, **choices):
        found = find_label_files(recipe_of(root, **choices))
        return {
            split: tuple(str(paths[0].parent.relative_to(root)) for paths in (part.images, part.labels))
            for split, part in found.items()
        }

    return find


@pytest.mark.parametrize(
    "splits",
    [
        {"train": ("train/images", "train/labels"), "test": ("val/images", "val/labels")},
        {"train": ("train/images", "train/masks"), "test": ("test/images", "test/masks")},
        {
            "train": ("images/training", "annotations/training"),
            "test": ("images/validation", "annotations/validation"),
        },
        {
            "train": ("images/train", "labels/train"),
            "val": ("images/val", "labels/val"),
            "test": ("images/test", "labels/test"),
        },
        {
            "train": ("train/images", "train/labels"),
            "val": ("valid/images", "valid/labels"),
            "test": ("testing/images", "testing/labels"),
        },
    ],
)
def test_both_layouts_are_found_and_a_lone_held_out_split_is_the_test(files, places, splits):
    root = files(*(f"{folder}/1.png" for folders in splits.values() for folder in folders))
    assert places(root) == splits


# Of what tools export without a split: the folder of images and that of label images, and what the latter
# adds to names.
WHOLE = {
    "two folders": ("images", "masks", ""),
    "two folders, a name of its own": ("images", "masks", "_mask"),
    "capitals": ("Images", "Labels", ""),
    "Pascal VOC": ("JPEGImages", "SegmentationClass", ""),
    "one folder": (".", ".", "_mask"),
    "one folder of images": ("images", "images", "_mask"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_images_without_splits_are_found(files, recipe_of, name):
    images, labels, ending = WHOLE[name]
    root = files(*(f"{images}/{n}.jpg" for n in "ab"), *(f"{labels}/{n}{ending}.png" for n in "ab"))
    assert has_label_images(root)
    (part,) = find_label_files(recipe_of(root)).values()
    assert part.findings == []
    assert part.images == [root / images / f"{n}.jpg" for n in "ab"]
    assert part.labels == [root / labels / f"{n}{ending}.png" for n in "ab"]


# The same of a split: its images and its label images.
PARTS = {
    "Roboflow": ("{0}/{1}.jpg", "{0}/{1}_mask.png"),
    "CamVid": ("{0}/{1}.jpg", "{0}_labels/{1}_L.png"),
    "CVAT's CamVid": ("{0}/{1}.jpg", "{0}annot/{1}.png"),
}


@pytest.mark.parametrize("name", PARTS)
def test_the_splits_of_tools_are_found(files, recipe_of, name):
    written = [[part.format(split, n) for part in PARTS[name]] for split, n in (("train", "a"), ("dev", "b"))]
    root = files("train/_classes.csv", *(path for paths in written for path in paths))
    if name != "Roboflow":
        (root / "train/_classes.csv").unlink()
    found = find_label_files(recipe_of(root))
    assert [[part.images, part.labels] for part in found.values()] == [
        [[root / image], [root / label]] for image, label in written
    ]
    assert list(found) == ["train", "test"]
    assert all(part.findings == [] for part in found.values())


def test_lists_of_names_are_the_splits_of_voc(files, recipe_of):
    kinds = ("JPEGImages/{}.jpg", "SegmentationClass/{}.png")
    root = files(*(kind.format(n) for kind in kinds for n in "abc"), "JPEGImages/d.jpg")
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "ImageSets/Segmentation/train.txt").write_text("a\nb\n")
    (root / "ImageSets/Segmentation/val.txt").write_text("c\n\nx\n")
    found = find_label_files(recipe_of(root))
    assert {split: [path.stem for path in part.images] for split, part in found.items()} == {
        "train": ["a", "b"],
        "test": ["c"],
    }
    lists = root / "ImageSets/Segmentation"
    assert [part.findings for part in found.values()] == [
        [],
        [f"{lists}/val.txt: line 3: no image x in {root}/JPEGImages; add it or take the line out"],
    ]


def test_labels_of_objects_are_no_label_images(files):
    root = files("images/train/1.jpg", "labels/train/1.txt", "annotations/instances_default.json")
    assert not has_label_images(root)


def test_splits_of_other_names_may_be_given(files, places, refused):
    names = ("train", "val", "extra", "test")
    root = files(*(f"{name}/{kind}/1.png" for name in names for kind in ("images", "labels")))

    def named(**choices):
        return {split: place[0].partition("/")[0] for split, place in places(root, **choices).items()}

    assert named() == {"train": "train", "val": "val", "test": "test"}
    assert named(val_split="extra") == {"train": "train", "val": "extra", "test": "test"}
    # What is called one split is not another one too.
    assert named(train_split="val", test_split="extra") == {"train": "val", "test": "extra"}
    assert named(test_split="val") == {"train": "train", "test": "val"}
    for split in ("train", "val", "test"):
        refused(lambda split=split: places(root, **{f"{split}_split": "none"}), f"no {split} split (none)")


def test_a_missing_split_or_label_folder_is_refused(files, refused, places):
    root = files("train/images/1.png")
    refused(lambda: places(root), root / "train/images", "no labels beside it", "train/labels/")
    files("train/labels/1.png")
    assert places(root) == {"train": ("train/images", "train/labels")}
    files("val/images/1.png")
    refused(lambda: places(root), root / "val/images", "no labels beside it")
    refused(lambda: places(root, val_split="val"), root / "val/images", "no labels beside it")


def test_a_test_set_that_is_published_without_labels_is_none(files, places):
    root = files(*(f"{kind}/{name}/1.png" for name in ("train", "val") for kind in ("images", "labels")))
    files("images/test/1.png")
    assert places(root)["test"] == ("images/val", "labels/val")
    assert "val" not in places(root)


def test_pairs_go_by_name_below_the_folders_whatever_the_extension(files):
    root = files(
        "i/b/2.jpg", "i/a.JPG", "i/c.tif", "l/a.png", "l/b/2.tif", "l/c.PNG", "i/.hidden", "l/.hidden"
    )
    pairs = pair_labels(root / "i", root / "l")
    assert [path.name for path in pairs.images] == ["a.JPG", "2.jpg", "c.tif"]
    assert [path.name for path in pairs.labels] == ["a.png", "2.tif", "c.PNG"]
    assert pairs.findings == []


def test_all_that_has_no_partner_is_listed(files):
    root = files("i/a.jpg", "i/b.jpg", "i/b.png", "i/notes.txt", "l/a.png", "l/c.png", "l/d.jpg", "i/e.jpg")
    pairs = pair_labels(root / "i", root / "l")
    assert [path.name for path in pairs.images] == ["a.jpg"]
    assert [finding.partition(";")[0] for finding in pairs.findings] == [
        f"{root}/i/b.png: of the same name as b.jpg",
        f"{root}/i/notes.txt: not among .jpg, .jpeg, .png, .ppm, .bmp, .pgm, .tif, .tiff, .webp",
        f"{root}/l/d.jpg: not among .png, .tif, .tiff, .bmp, .gif",
        f"{root}/i/b.jpg: no label image {root}/l/b.png",
        f"{root}/i/e.jpg: no label image {root}/l/e.png",
        f"{root}/l/c.png: no image of that name in {root}/i",
    ]


def test_folders_without_any_pair_are_a_finding(files):
    root = files("i/a.jpg", "l/.hidden")
    (finding,) = pair_labels(root / "i", root / "l").findings
    assert finding.startswith(
        f"{root}/i: none of its 1 images has a label image of its name in {root}/l, which"
    )
    files("l/b.png")
    (finding,) = pair_labels(root / "i", root / "l").findings
    assert f"of its name in {root}/l, {root}/l/b.png for one" in finding
    (finding,) = pair_labels(root / "none", root / "l").findings
    assert finding == f"{root}/none: no image; put images there"


def test_pipes_and_broken_links_are_findings_and_are_never_opened(files):
    root = files("i/a.png", "i/b.png", "l/a.png", "l/b.png", "i/c.png", "l/c.png")
    for path in (root / "i/a.png", root / "l/b.png"):
        path.unlink()
        os.mkfifo(path)
    (root / "i/c.png").unlink()
    (root / "i/c.png").symlink_to(root / "nothing.png")
    findings = pair_labels(root / "i", root / "l").findings
    for path in ("i/a.png", "i/c.png", "l/b.png"):
        assert f"{root / path}: not a regular file; put a file in its place, or leave it out" in findings


def test_pairs_of_other_sizes_are_findings_and_nothing_is_decoded(files, monkeypatch):
    root = files("i/a.png", "i/b.jpg", "i/c.png", "l/a.png")
    # On its side, as a photograph may lie.
    files("l/b.png", size=(3, 4))
    files("l/c.png", size=(5, 4))

    def never(self, *_):
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", never)
    pairs = pair_labels(root / "i", root / "l")
    assert [path.name for path in pairs.images] == ["a.png", "b.jpg"]
    assert pairs.findings == [
        f"{root}/l/c.png: 5 x 4 pixels, and {root}/i/c.png has 4 x 3; make them the same size"
    ]

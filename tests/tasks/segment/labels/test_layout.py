import pytest

from crosshead.tasks.segment.labels.layout import find_label_folders, pair_labels


@pytest.fixture
def files(tmp_path):
    def touch(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return touch


@pytest.mark.parametrize(
    ("train", "test"),
    [
        (("train/images", "train/labels"), ("val/images", "val/labels")),
        (("train/images", "train/masks"), ("test/images", "test/masks")),
        (("images/training", "annotations/training"), ("images/validation", "annotations/validation")),
        (("images/train", "labels/train"), ("images/val", "labels/val")),
    ],
)
def test_both_layouts_are_found(files, train, test):
    root = files(*(f"{folder}/1.png" for folder in (*train, *test)))
    expected = tuple(tuple(root / name for name in part) for part in (train, test))
    assert find_label_folders(root) == expected


def test_a_split_of_another_name_may_be_given(files):
    names = ("train", "val", "extra")
    root = files(*(f"{name}/{kind}/1.png" for name in names for kind in ("images", "labels")))
    assert find_label_folders(root)[1][0].parent.name == "val"
    assert find_label_folders(root, train="val", test="extra")[1][0].parent.name == "extra"


def test_a_missing_split_or_label_folder_is_refused(files, refused):
    root = files("train/images/1.png")
    refused(lambda: find_label_folders(root), root / "train/images", "no labels beside it", "train/labels/")
    files("train/labels/1.png")
    refused(lambda: find_label_folders(root), root, "no test split (val, test,", "val/images/")
    refused(lambda: find_label_folders(None), "data_dir is None")


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
    findings = pair_labels(root / "i", root / "l").findings
    assert len(findings) == 2
    assert f"{root}/i: no image with a label image in {root}/l" in findings[1]

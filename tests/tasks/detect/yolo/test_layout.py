import pytest

from crosshead.tasks.detect.yolo.layout import find_yolo, label_file

NAMES = "names: {0: cat, 1: dog}\n"


def images(places):
    return {split: [path.name for path in place.images] for split, place in places.items()}


THREE = {"train": ["1.png", "2.png"], "val": ["3.png"], "test": ["4.png"]}
BY_KIND = {f"images/{split}/{name}": None for split, names in THREE.items() for name in names}
BY_SPLIT = {f"{split}/images/{name}": None for split, names in THREE.items() for name in names}
# Of what tools export: data.yaml, and where the first image and its labels lie.
LAYOUTS = {
    "Ultralytics": (
        {"data.yaml": f"path: ../sets/set\ntrain: images/train\nval: images/val\ntest: images/test\n{NAMES}"},
        BY_KIND,
        "labels/train/1.txt",
    ),
    "Roboflow": (
        {"data.yaml": f"train: ../train/images\nval: ../val/images\ntest: ../test/images\n{NAMES}"},
        BY_SPLIT,
        "train/labels/1.txt",
    ),
    "lists": (
        {
            "data.yaml": f"path: .\ntrain: train.txt\nval: [val.txt]\ntest: test.txt\n{NAMES}",
            "train.txt": "./images/train/1.png\n\n/elsewhere/images/train/2.png\n",
            "val.txt": "data/images/val/3.png\n",
            "test.txt": "images\\test\\4.png",
        },
        BY_KIND,
        "labels/train/1.txt",
    ),
    "Darknet": (
        {
            "obj.names": "cat\ndog\n",
            "train.txt": "data/obj_train_data/1.png\ndata/obj_train_data/2.png\n",
            "valid.txt": "data/obj_valid_data/3.png",
            "test.txt": "data/obj_test_data/4.png",
        },
        {
            f"obj_{folder}_data/{name}": None
            for folder, split in (("train", "train"), ("valid", "val"), ("test", "test"))
            for name in THREE[split]
        },
        "obj_train_data/1.txt",
    ),
    "folders alone": ({"classes.txt": "cat\ndog"}, BY_KIND, "labels/train/1.txt"),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_layouts_of_tools_are_found(write_yolo, name):
    texts, pictures, label = LAYOUTS[name]
    root = write_yolo(**texts, **pictures, **{label: "0 .5 .5 1 1"})
    places = find_yolo(root)
    assert images(places) == THREE
    assert (places["train"].classes, places["train"].findings) == (("cat", "dog"), [])
    assert places["train"].labels[0] == root / label


def test_the_file_of_names_may_be_called_otherwise_beside_other_yaml(write_yolo):
    texts = {"cells.yml": f"train: images/train\n{NAMES}", "settings.yaml": "- 1", "broken.yaml": "["}
    root = write_yolo(**texts, **BY_KIND, **{"labels/train/1.txt": "", "labels/train/._1.txt": ""})
    place = find_yolo(root)["train"]
    assert (place.path, place.findings) == (root / "cells.yml", [])


def test_images_without_splits_are_all_to_train_on(write_yolo):
    root = write_yolo(**{"classes.txt": "cat", "notes.json": "{}", "images/1.png": None, "labels/1.txt": ""})
    assert images(find_yolo(root)) == {"train": ["1.png"]}


def test_a_lone_held_out_split_is_the_test(write_yolo):
    yaml = f"train: images/train\nval: images/val\n{NAMES}"
    places = find_yolo(write_yolo(**{"data.yaml": yaml, "labels/val/3.txt": ""}, **BY_KIND))
    assert images(places) == {"train": THREE["train"], "test": THREE["val"]}
    # The same folder named twice is one split, too.
    places = find_yolo(write_yolo(**{"data.yaml": f"{yaml}test: images/val\n"}))
    assert images(places) == {"train": THREE["train"], "test": THREE["val"]}


def test_splits_may_be_given_by_name(write_yolo):
    root = write_yolo(**{"data.yaml": f"train: images/train\nextra: images/val\n{NAMES}"}, **BY_KIND)
    assert images(find_yolo(root, val="extra", test="test")) == THREE


def test_the_labels_of_a_folder_called_images_lie_in_labels(tmp_path):
    assert label_file(tmp_path / "images" / "a.b.jpg", root=tmp_path) == tmp_path / "labels" / "a.b.txt"
    assert label_file(tmp_path / "1.jpg", root=tmp_path) == tmp_path / "1.txt"


@pytest.mark.parametrize(
    ("yaml", "words"),
    [
        ("train: images/train", "no names of the classes; write names:"),
        ("train: images/train\nnames: cat", "names is 'cat'"),
        ("train: images/train\nnames: {0: cat, 2: dog}", "numbered from 0 on"),
        ("train: images/train\nnames: [cat, cat]", "two classes are called 'cat'"),
        ("names: [", "not readable as YAML"),
        ("- cat", "no mapping of names and splits"),
        (f"train: images/none\n{NAMES}", "train is 'images/none', and there is no"),
        (f"train: labels/train\n{NAMES}", "the train split has no image"),
        (f"train: images/train\nval: images/train\n{NAMES}", "the images to train on are held out as well"),
    ],
)
def test_what_is_wrong_with_the_file_of_names_is_said(write_yolo, refused, yaml, words):
    root = write_yolo(**{"data.yaml": yaml, "labels/train/1.txt": "", **BY_KIND})
    refused(lambda: find_yolo(root), root / "data.yaml", words)


def test_a_list_names_the_line_of_a_missing_image(write_yolo, refused):
    texts = {"data.yaml": f"train: train.txt\n{NAMES}", "train.txt": "1.png\nimages/9.png\n"}
    root = write_yolo(**texts, **{"1.png": None})
    refused(lambda: find_yolo(root), root / "train.txt", "line 2: no such image file, images/9.png")


def test_labels_without_an_image_are_findings(write_yolo):
    yaml = {"data.yaml": f"train: images/train\n{NAMES}"}
    root = write_yolo(**yaml, **BY_KIND, **{"labels/train/1.txt": "", "labels/train/7.txt": ""})
    (line,) = find_yolo(root)["train"].findings
    assert line.startswith(f"{root}/labels/train/7.txt: no image of that name; add the image or leave")


@pytest.mark.parametrize(
    ("labels", "line"),
    [
        (("a.txt", "b.txt"), "labels/train: none of its 2 label files has the name of an image, a.txt for"),
        ((), "images/train: none of its 2 images has a label file"),
    ],
)
def test_labels_and_images_that_do_not_match_at_all_are_one_finding(write_yolo, labels, line):
    texts = {f"labels/train/{name}": "" for name in labels}
    root = write_yolo(**{"data.yaml": f"train: images/train\n{NAMES}"}, **BY_KIND, **texts)
    (finding,) = find_yolo(root)["train"].findings
    assert finding.startswith(f"{root}/{line}")

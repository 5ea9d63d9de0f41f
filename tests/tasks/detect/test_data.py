import gzip
import json
import pickle
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from crosshead.tasks.detect import data as module
from crosshead.tasks.detect.check import check_objects
from crosshead.tasks.detect.data import load_objects
from crosshead.tasks.detect.recipe import DetectRecipe
from crosshead.tasks.task import DataError

SQUARE = [[1, 1, 3, 1, 3, 3, 1, 3]]
EMPTY = {"size": [4, 6], "counts": [24]}


def recipe_of(root, **choices) -> DetectRecipe:
    """Without a validation set, unless it is asked for."""
    return DetectRecipe(
        **{"data": "folder", "data_dir": root, "model": "", "epochs": 1, "val": 0.0, **choices}
    )


def load(root, *, masks=False, **choices) -> Any:
    return load_objects(recipe_of(root, **choices), masks=masks)


def check(root, *, masks, **choices) -> list[str]:
    found = check_objects(recipe_of(root, **choices), masks=masks)
    return [fault for fault in found if isinstance(fault, str)]


def test_images_come_with_their_objects(write_coco, coco_document):
    objects = ({"bbox": [1, 1, 2, 3], "category_id": 7, "iscrowd": 1, "area": 5}, {"bbox": [-0.5, 0, 3, 4]})
    data = load(write_coco(coco_document(*objects, images=2)))
    assert (len(data.train), data.val, len(data.test)) == (2, None, 1)
    meta = data.meta
    assert (meta.classes, meta.category_ids, meta.masks) == (("cat", "dog"), (3, 7), False)
    assert (meta.in_chans, meta.min_size, meta.max_size) == (3, 4, 6)
    image, found = data.train[0]
    assert (image.mode, image.size, image.getpixel((0, 0))) == ("RGB", (6, 4), (15, 0, 0))
    assert found.boxes.tolist() == [[1, 1, 3, 4], [0, 0, 2.5, 4]]
    assert found.labels.tolist() == [2, 1]
    assert found.crowd.tolist() == [True, False]
    assert found.area.tolist() == [5, 10]
    assert (found.masks, found.image_id) == (None, 1)
    dtypes = (found.boxes.dtype, found.labels.dtype, found.crowd.dtype, found.area.dtype)
    assert dtypes == (np.float32, np.int64, bool, np.float32)


def test_an_image_without_objects_is_kept(write_coco, coco_document):
    for masks in False, True:
        _, objects = load(write_coco(coco_document()), masks=masks).train[0]
        assert (len(objects), objects.boxes.shape, objects.labels.dtype) == (0, (0, 4), np.int64)
        assert (objects.masks.shape if masks else objects.masks) == ((0, 4, 6) if masks else None)


def test_mean_and_spread_are_those_of_the_training_images(write_coco, coco_document):
    meta = load(write_coco(coco_document(images=3))).meta
    red = np.array([15, 25, 35]) / 255
    assert meta.mean == pytest.approx((red.mean(), 0, 0), abs=1e-12)
    assert meta.std == pytest.approx((red.std(), 1, 1), abs=1e-12)


def test_grey_images_have_one_channel_unless_three_are_asked_for(write_coco, coco_document):
    root = write_coco(coco_document())
    for path in root.rglob("*.png"):
        Image.new("L", (6, 4), 9).save(path)
    assert load(root).meta.in_chans == 1
    assert load(root).train[0][0].mode == "L"
    assert load(root, in_chans=3).train[0][0].mode == "RGB"
    with pytest.raises(ValueError, match=r"in_chans must be 1 .*; got 4"):
        load(root, in_chans=4)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"id": "x"}, "ids of annotation entries are texts, such as 'x'"),
        ({"image_id": 5}, "annotation 1: no image has its image_id 5"),
        ({"category_id": 5}, "annotation 1: no category has its category_id 5"),
        ({"bbox": [0, 0, 9, 2]}, "annotation 1 of image 1 (1.png): box [0, 0, 9, 2] reaches outside"),
        ({"segmentation": None}, "annotation 1 of image 1 (1.png): no mask; draw one"),
        ({"segmentation": [[1, 1, 2, 2]]}, "annotation 1 of image 1 (1.png): polygon of 2 points"),
        ({"segmentation": {"size": [6, 4], "counts": [24]}}, "(1.png): mask of 4 x 6 pixels"),
        ({"segmentation": EMPTY}, "annotation 1 of image 1 (1.png): empty mask"),
        ({"segmentation": {"size": [4, 6], "counts": "~"}}, "(1.png): mask cannot be decoded"),
    ],
)
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_fault_in_either_split_is_refused_by_file_and_entry(
    write_coco, coco_document, refused, document, words, split
):
    sound = coco_document({"segmentation": SQUARE})
    faulty = coco_document({"segmentation": SQUARE, **document})
    root = write_coco(*((faulty, sound) if split == "train" else (sound, faulty)))
    refused(lambda: load(root, masks=True), root / f"{split}.json", words)


def test_images_missing_unreadable_or_of_another_size_are_refused(write_coco, coco_document, refused):
    root = write_coco(coco_document(images=2))
    path = root / "train" / "2.png"
    Image.new("RGB", (4, 6)).save(path)
    refused(lambda: load(root), path, f"4 x 6 pixels, and {root}/train.json says 6 x 4; correct")
    path.write_bytes(b"broken")
    refused(lambda: load(root), path, "not readable as an image")
    path.unlink()
    refused(lambda: load(root), path, "no such image file")


def test_all_splits_need_the_same_categories(write_coco, coco_document, refused):
    other = coco_document(categories=[{"id": 3, "name": "cat"}, {"id": 8, "name": "fox"}])
    root = write_coco(coco_document(), other)
    refused(
        lambda: load(root), root / "val.json", "category 7 is 'missing', and 'dog' in", "the same categories"
    )


def test_faulty_annotations_are_left_out_where_that_is_asked_for(write_coco, coco_document, caplog):
    root = write_coco(
        coco_document(
            {"segmentation": SQUARE},
            {"segmentation": SQUARE, "bbox": [1, 1, 2, 0]},
            {"segmentation": EMPTY, "category_id": 7},
        )
    )
    splits = load(root, masks=True, skip_faulty=True)
    _, objects = splits.train[0]
    assert objects.labels.tolist() == [1]
    assert len(objects.masks) == 1
    assert f"{root}/train.json: annotations left out for 1 faults; " in caplog.text


def test_the_splits_can_be_sent_to_workers(write_coco, coco_document):
    splits = pickle.loads(pickle.dumps(load(write_coco(coco_document({"segmentation": SQUARE})), masks=True)))
    assert splits.train[0][1].masks.sum() == 4


def unpack(archive, folder):
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    (root,) = folder.iterdir()
    return root


def counts(part):
    return len(part), sum(len(image.objects) for image in part.images)


def test_the_real_nuclei_are_complete_and_their_boxes_are_those_of_their_masks(real_data, tmp_path):
    root = unpack(real_data / "dsb2018-nuclei" / "dsb2018-nuclei-256.tar.xz", tmp_path)
    splits = load(root, masks=True)
    assert (counts(splits.train), counts(splits.test)) == ((535, 22_430), (129, 5_763))
    assert (splits.meta.classes, splits.meta.max_size) == (("nucleus",), 256)
    (most,) = (image for image in splits.train.images if len(image.objects) == 367)
    objects = splits.train.objects(splits.train.images.index(most))
    for box, mask in zip(objects.boxes, objects.masks, strict=True):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        assert box.tolist() == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    assert objects.area.tolist() == objects.masks.sum(axis=(1, 2)).tolist()


def test_the_real_blood_cells_are_complete(real_data, tmp_path):
    root = unpack(real_data / "bccd" / "bccd-320x240.tar.xz", tmp_path)
    data = load(root)
    assert (counts(data.train), counts(data.val), counts(data.test)) == ((205, 2_804), (87, 1_137), (72, 945))
    assert (data.meta.classes, data.meta.category_ids) == (("RBC", "WBC", "Platelets"), (1, 2, 3))
    assert (data.meta.in_chans, data.meta.min_size, data.meta.max_size) == (3, 240, 320)


@pytest.fixture(scope="module")
def fashion(tmp_path_factory) -> Path:
    """Fashion-MNIST with ten flat items to a split."""
    folder = tmp_path_factory.mktemp("fashion")

    def write(name: str, array: np.ndarray) -> None:
        header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
        (folder / name).write_bytes(gzip.compress(header + array.tobytes()))

    for split in ("train", "t10k"):
        items = np.repeat(np.arange(100, 110, dtype=np.uint8), 28 * 28).reshape(10, 28, 28)
        write(f"{split}-images-idx3-ubyte.gz", items)
        write(f"{split}-labels-idx1-ubyte.gz", np.arange(10, dtype=np.uint8))
    return folder


def scenes(folder, *, scenes=(6, 2), scene_size=96, **choices) -> DetectRecipe:
    return recipe_of(folder, data="fashion-scenes", scenes=scenes, scene_size=scene_size, **choices)


def test_scenes_are_grey_images_with_objects_of_ten_classes(fashion, monkeypatch):
    monkeypatch.setattr(module, "MEASURED", 4)
    data: Any = load_objects(scenes(fashion, scenes=(4, 3)), masks=True)
    assert (len(data.train), data.val, len(data.test)) == (4, None, 3)
    meta = data.meta
    assert (len(meta.classes), meta.classes[9]) == (10, "Ankle boot")
    assert meta.category_ids == tuple(range(1, 11))
    assert (meta.in_chans, meta.masks, meta.min_size, meta.max_size) == (1, True, 96, 96)
    measured = np.stack([np.asarray(image) for image, _ in data.train]) / 255
    assert meta.mean == pytest.approx((measured.mean(),), abs=1e-12)
    assert meta.std == pytest.approx((measured.std(),), abs=1e-12)
    assert load_objects(scenes(fashion, scenes=(9, 3)), masks=True).meta == meta


def test_scenes_to_validate_on_are_taken_from_the_training_scenes(fashion):
    whole: Any = load_objects(scenes(fashion), masks=True)
    data: Any = load_objects(scenes(fashion, val=0.34), masks=True)
    parts = {name: {image.tobytes() for image, _ in getattr(data, name)} for name in ("train", "val", "test")}
    assert [len(part) for part in parts.values()] == [4, 2, 2]
    assert parts["train"] | parts["val"] == {image.tobytes() for image, _ in whole.train}
    assert not parts["test"] & (parts["train"] | parts["val"])


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"scenes": (0, 2)}, "scenes must be two counts of 1 or more; got 0, 2"),
        ({"scenes": (2, 0)}, "scenes must be two counts of 1 or more; got 2, 0"),
        ({"scene_size": 95}, "scene_size must be 96 pixels or more; got 95"),
    ],
)
def test_scenes_too_few_or_too_small_are_refused(fashion, choices, message):
    with pytest.raises(ValueError, match=message):
        load_objects(scenes(fashion, **choices), masks=True)


def test_sound_scenes_have_no_findings(fashion):
    assert list(check_objects(scenes(fashion), masks=True)) == []


def test_a_folder_without_fashion_mnist_is_a_line(tmp_path):
    (fault,) = map(str, check_objects(scenes(tmp_path), masks=True))
    assert str(tmp_path) in fault
    assert "\n" not in fault


def test_the_choices_of_the_recipe_reach_the_data(write_coco_data, tmp_path):
    root = write_coco_data(tmp_path / "coco")
    for old, new in (("train", "learn"), ("val", "measure")):
        (root / f"{old}.json").rename(root / f"{new}.json")
        (root / old).rename(root / new)
    document = json.loads((root / "learn.json").read_text())
    document["annotations"][0]["bbox"][2] = 0
    (root / "learn.json").write_text(json.dumps(document))
    choices: dict = {"train_split": "learn", "test_split": "measure.json", "in_chans": 1}
    with pytest.raises(DataError, match=r"annotation 1 .* has no area"):
        load(root, **choices)
    assert len(check(root, masks=False, **choices)) == 1
    data = load(root, skip_faulty=True, **choices)
    assert data.meta.in_chans == 1
    assert [len(objects) for _, objects in data.train][:2] == [1, 1]


def test_a_source_without_a_folder_or_that_cannot_be_fetched_is_refused(coco_data):
    for call in (load_objects, lambda recipe, masks: list(check_objects(recipe, masks=masks))):
        with pytest.raises(DataError, match=r"^detect needs the folder .* --data-dir$"):
            call(recipe_of(None), masks=False)
        with pytest.raises(DataError, match=r"^detect cannot be downloaded: leave --download out"):
            call(recipe_of(coco_data, download=True), masks=False)

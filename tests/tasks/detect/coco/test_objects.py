import pickle
import tarfile
from typing import Any

import numpy as np
import pytest
from PIL import Image

from crosshead.tasks.detect.coco.objects import load_coco

SQUARE = [[1, 1, 3, 1, 3, 3, 1, 3]]
EMPTY = {"size": [4, 6], "counts": [24]}


def load(root, **options) -> Any:
    return load_coco(root, **{"masks": False, **options})


def test_images_come_with_their_objects(write_coco, coco_document):
    objects = ({"bbox": [1, 1, 2, 3], "category_id": 7, "iscrowd": 1, "area": 5}, {"bbox": [-0.5, 0, 3, 4]})
    splits = load(write_coco(coco_document(*objects, images=2)))
    assert (len(splits.train), len(splits.test)) == (2, 1)
    assert (splits.classes, splits.category_ids, splits.masks) == (("cat", "dog"), (3, 7), False)
    assert (splits.in_chans, splits.min_size, splits.max_size, splits.max_objects) == (3, 4, 6, 2)
    image, found = splits.train[0]
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
    splits = load(write_coco(coco_document(images=3)))
    red = np.array([15, 25, 35]) / 255
    assert splits.mean == pytest.approx((red.mean(), 0, 0), abs=1e-12)
    assert splits.std == pytest.approx((red.std(), 1, 1), abs=1e-12)


def test_grey_images_have_one_band_unless_three_are_asked_for(write_coco, coco_document):
    root = write_coco(coco_document())
    for path in root.rglob("*.png"):
        Image.new("L", (6, 4), 9).save(path)
    assert load(root).in_chans == 1
    assert load(root).train[0][0].mode == "L"
    assert load(root, in_chans=3).train[0][0].mode == "RGB"
    with pytest.raises(ValueError, match=r"in_chans is 4; give 1 .*, 3"):
        load(root, in_chans=4)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"id": "x"}, "annotation at position 0: id is 'x'"),
        ({"image_id": 5}, "annotation 1: no image has its image_id 5"),
        ({"category_id": 5}, "annotation 1: no category has its category_id 5"),
        ({"bbox": [0, 0, 9, 2]}, "annotation 1 of image 1 (1.png): box [0, 0, 9, 2] reaches outside"),
        ({"segmentation": None}, "annotation 1 of image 1 (1.png): no segmentation"),
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
    refused(lambda: load(root), path, "no such image")


def test_both_splits_need_the_same_categories(write_coco, coco_document, refused):
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
    assert (splits.classes, splits.max_objects, splits.max_size) == (("nucleus",), 367, 256)
    (most,) = (image for image in splits.train.images if len(image.objects) == 367)
    objects = splits.train.objects(splits.train.images.index(most))
    for box, mask in zip(objects.boxes, objects.masks, strict=True):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        assert box.tolist() == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    assert objects.area.tolist() == objects.masks.sum(axis=(1, 2)).tolist()


def test_the_real_blood_cells_are_complete(real_data, tmp_path):
    root = unpack(real_data / "bccd" / "bccd-320x240.tar.xz", tmp_path)
    splits = load(root)
    assert (counts(splits.train), counts(splits.test)) == ((205, 2_804), (87, 1_137))
    assert counts(load(root, test="test").test) == (72, 945)
    assert (splits.classes, splits.category_ids) == (("RBC", "WBC", "Platelets"), (1, 2, 3))
    assert (splits.in_chans, splits.min_size, splits.max_size) == (3, 240, 320)

"""Pascal VOC's XML: pixels counted from 1, unless a tool means edges."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from crosshead.tasks.detect.annotated import Annotations
from crosshead.tasks.detect.voc import find_voc, read_voc

SIZE = "<size><width>8</width><height>6</height><depth>1</depth></size>"


def thing(*box: float | str, name: str = "cat", difficult: int = 0) -> str:
    sides = "".join(f"<{side}>{value}</{side}>" for side, value in zip(("xmin", "ymin", "xmax", "ymax"), box))  # noqa: B905 (some lack a side)
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{sides}</bndbox></object>"


@pytest.fixture
def write(tmp_path) -> Callable[..., Path]:
    """Writes an image of 8 x 6 pixels, and its XML, by the name of the XML file."""

    def call(
        objects: str, name: str = "Annotations/1.xml", *, images: str = "JPEGImages", size: str = SIZE
    ) -> Path:
        path = tmp_path / name
        for folder in (path.parent, tmp_path / images):
            folder.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 6)).save(tmp_path / images / f"{path.stem}.jpg")
        path.write_text(f"<annotation><filename>{path.stem}.jpg</filename>{size}{objects}</annotation>")
        return tmp_path

    return call


def read(root: Path, *, masks: bool = False) -> Annotations:
    return read_voc(find_voc(root)["train"], masks=masks)


def test_the_last_row_and_column_of_a_box_are_in_it(write):
    found = read(write(thing(1, 1, 8, 6) + thing(2, 3, 4, 3, name="ant", difficult=1)))
    assert found.categories == {0: "ant", 1: "cat"}
    objects = found.images[0].objects
    assert objects.boxes.tolist() == [[0, 0, 8, 6], [1, 2, 4, 3]]
    assert objects.labels.tolist() == [2, 1]
    assert objects.crowd.tolist() == [False, True]


@pytest.mark.parametrize("box", [(0, 1, 3, 4), (1.5, 1, 3, 4)])
def test_zeros_and_fractions_are_edges_throughout_the_data_set(write, box):
    write(thing(2, 2, 5, 5))
    root = write(thing(*box), "Annotations/2.xml")
    assert [image.objects.boxes.tolist() for image in read(root).images] == [[[2, 2, 5, 5]], [list(box)]]


@pytest.mark.parametrize("size", ["", SIZE.replace("8", "0")])
def test_a_size_that_is_not_given_is_measured(write, size):
    assert read(write(thing(1, 1, 2, 2), size=size)).images[0].size == (8, 6)


def test_lists_of_names_are_splits(write):
    root = write(thing(1, 1, 2, 2), "Annotations/a.xml")
    for name in "bc":
        write(thing(1, 1, 2, 2), f"Annotations/{name}.xml")
    lists = root / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\nb -1\n")
    (lists / "val.txt").write_text("c  1\n")
    found = {split: [path.stem for path, _ in place.files] for split, place in find_voc(root).items()}
    assert found == {"train": ["a", "b"], "test": ["c"]}


def test_files_beside_their_images_may_lie_in_splits(write):
    write(thing(1, 1, 2, 2), "train/1.xml", images="train")
    root = write(thing(1, 1, 2, 2), "valid/2.xml", images="valid")
    places = find_voc(root)
    assert list(places) == ["train", "test"]
    assert read_voc(places["test"], masks=False).images[0].path == root / "valid/2.jpg"


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (thing(1, 1, 2), "ymax is None; give a number"),
        (thing(1, 1, 2, "x"), "ymax is 'x'; give a number"),
        (thing(1, 1, 2, 2, name=""), "no name; give the object one"),
        ("<object><name>cat</name></object>", "no bndbox; draw its box"),
        (thing(1, 1, 30, 2), "reaches outside the image of 8 x 6 pixels"),
    ],
)
def test_a_faulty_object_is_named_by_file_and_number(write, fault, words):
    root = write(thing(1, 1, 2, 2) + fault)
    (line,) = read(root).faulty
    assert line.startswith(f"{root}/Annotations/1.xml: object 2: ")
    assert words in line


def test_what_is_missing_is_named(write, refused):
    root = write("")
    refused(lambda: find_voc(root), root, "none of its 1 XML files has an object with a name")
    write(thing(1, 1, 2, 2))
    (root / "JPEGImages/1.jpg").unlink()
    (finding,) = read(root).findings
    assert finding.startswith(f"{root}/Annotations/1.xml: no image 1.jpg or the like")
    lists = root / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("1\n\n9\n")
    refused(lambda: find_voc(root), lists / "train.txt", "line 3: no ", "9.xml")
    (lists / "train.txt").write_text("1\n")
    refused(lambda: find_voc(root, test="holdout"), root, "no split 'holdout'; list it in ImageSets/Main")

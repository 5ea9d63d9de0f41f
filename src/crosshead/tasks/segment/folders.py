"""Folders of images and of label images: where the splits are, and which files belong together."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torchvision.datasets.folder import IMG_EXTENSIONS

from crosshead.tasks.segment.labels import opened, require_regular
from crosshead.tasks.segment.recipe import SegmentRecipe
from crosshead.tasks.splits import NAMES, existing_folder, find_places
from crosshead.tasks.task import DataError

IMAGE_FOLDERS = ("images", "image")
LABEL_FOLDERS = ("labels", "masks", "annotations", "label", "mask")
LABEL_EXTENSIONS = (".png", ".tif", ".tiff", ".bmp", ".gif")


@dataclass(frozen=True, kw_only=True)
class LabelledFiles:
    """The image files of one split with the label image of each.

    Attributes:
        images: the image files, in the order of their names.
        labels: the label image of each.
        findings: what is wrong with other files of the folders, a line each: without a partner, with two, or
            of another size than their partner.
    """

    images: list[Path] = field(default_factory=list)
    labels: list[Path] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)


def find_label_files(recipe: SegmentRecipe) -> dict[str, LabelledFiles]:
    """Finds the files of the splits, in `{split}/{images,labels}/` or `{images,labels}/{split}/`.

    labels/ may be called masks/ or annotations/, the splits as `crosshead.tasks.splits.NAMES` says.

    Args:
        recipe: names the folder, and the splits where they have other names.

    Returns:
        The files of train, test and, where there is a third split, val. A held-out split without label
        images, as test sets are often published, counts as none.

    Raises:
        DataError: if the folder, the training split, every held-out split or one that the recipe names is
            missing.
    """
    root = existing_folder(recipe.data_dir)
    given = {"train": recipe.train_split, "val": recipe.val_split, "test": recipe.test_split}
    lacking: dict[str, str] = {}

    def missing(split: str, names: Sequence[str]) -> DataError:
        return DataError(
            lacking.get(split)
            or f"{root}: no {split} split ({', '.join(names)}); put it there as {names[0]}/images/ and "
            f"{names[0]}/labels/, or images/{names[0]}/ and labels/{names[0]}/, or give {split}_split"
        )

    def find(split: str, names: Sequence[str]) -> tuple[Path, Path] | None:
        for name in names:
            for split_first in (True, False):
                images, labels = (
                    [root / name / kind if split_first else root / kind / name for kind in kinds]
                    for kinds in (IMAGE_FOLDERS, LABEL_FOLDERS)
                )
                image_folder = next(filter(Path.is_dir, images), None)
                label_folder = next(filter(Path.is_dir, labels), None)
                if image_folder and label_folder:
                    return image_folder, label_folder
                if image_folder:
                    lacks = f"{image_folder}: no labels beside it; add {labels[0]}/ with label images"
                    lacking.setdefault(split, lacks)
        if given[split] or split == "train":
            raise missing(split, names)
        return None

    places = find_places(find, **given)
    if "test" not in places:
        closest = "val" if "val" in lacking and "test" not in lacking else "test"
        raise missing(closest, (*NAMES["test"], *NAMES["val"]))
    return {split: pair_labels(*folders) for split, folders in places.items()}


def pair_labels(images: Path, labels: Path) -> LabelledFiles:
    """Pairs image files with label images of the same name, extensions aside, and of the same size.

    Sizes are those that the headers of the files give: nothing is decoded.

    Args:
        images: the folder of images, searched to any depth.
        labels: the folder of label images: PNG, TIFF, BMP or GIF.

    Returns:
        The pairs, and what is wrong with other files.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> root = Path(tempfile.mkdtemp())
        >>> for name in "images/a.jpg", "images/b.jpg", "labels/a.png":
        ...     (root / name).parent.mkdir(exist_ok=True)
        ...     Image.new("L", (4, 3)).save(root / name)
        >>> files = pair_labels(root / "images", root / "labels")
        >>> [path.name for path in files.images], len(files.findings)
        (['a.jpg'], 1)
    """
    files = LabelledFiles()
    image_files = _by_name(images, tuple(IMG_EXTENSIONS), files.findings)
    label_files = _by_name(labels, LABEL_EXTENSIONS, files.findings)
    for name in dict.fromkeys([*image_files, *label_files]):
        image, label = image_files.get(name), label_files.get(name)
        if label is None:
            lacks = f"{image}: no label image {labels / name}.png; add it or leave the image out"
            files.findings.append(lacks)
        elif image is None:
            lacks = f"{label}: no image of that name in {images}; add it or leave the label image out"
            files.findings.append(lacks)
        else:
            try:
                _require_similar_size(image, label)
            except DataError as error:
                files.findings.append(str(error))
            else:
                files.images.append(image)
                files.labels.append(label)
    if not image_files.keys() & label_files.keys():
        files.findings.append(f"{images}: no image with a label image in {labels}; add images and PNG labels")
    return files


def other_size(label: Path, label_size: Sequence[int], image: Path, size: Sequence[int]) -> DataError:
    """The error of a label image that does not fit its image; sizes are (width, height)."""
    return DataError(
        f"{label}: {label_size[0]} x {label_size[1]} pixels, and {image} has {size[0]} x {size[1]}; make "
        "them the same size"
    )


def _require_similar_size(image: Path, label: Path) -> None:
    # Photographs may lie on their side, which the decoder puts right.
    with opened(image) as one, opened(label, labels=True) as other:
        if sorted(one.size) != sorted(other.size):
            raise other_size(label, other.size, image, one.size)


def _by_name(folder: Path, extensions: tuple[str, ...], findings: list[str]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_dir() or path.name.startswith("."):
            continue
        name = str(path.relative_to(folder).with_suffix(""))
        if path.suffix.lower() not in extensions:
            findings.append(f"{path}: not among {', '.join(extensions)}; convert it or leave it out")
        elif name in files:
            findings.append(f"{path}: of the same name as {files[name].name}; leave one of them out")
        else:
            try:
                require_regular(path)
                files[name] = path
            except DataError as error:
                findings.append(str(error))
    return files

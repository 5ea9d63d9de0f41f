"""Folders of images and of label images: where the splits are, and which files belong together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torchvision.datasets.folder import IMG_EXTENSIONS

from crosshead.tasks.segment.labels import opened, require_regular
from crosshead.tasks.segment.recipe import SegmentRecipe
from crosshead.tasks.splits import NAMES, existing_folder, find_places
from crosshead.tasks.task import DataError

IMAGE_FOLDERS = ("images", "image", "jpegimages")
LABEL_FOLDERS = ("labels", "masks", "annotations", "label", "mask", "segmentationclass")
# Of a folder of labels beside that of a split: train/ and train_labels/.
BESIDE = ("_labels", "_masks", "_label", "_mask", "annot")
LABEL_EXTENSIONS = (".png", ".tif", ".tiff", ".bmp", ".gif")
# What a label image may be called beside NAME.
ENDINGS = ("_mask", "_masks", "-mask", "_label", "_labels", "_seg", "_gt", "_L")
LISTS = ("ImageSets", "Segmentation")


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


@dataclass(frozen=True, kw_only=True)
class LabelPlace:
    """Where the files of one split lie.

    Attributes:
        images: the folder of the images.
        labels: that of the label images; it may be the same.
        names: a text file with the names of the images, if not all of the folder are meant.
    """

    images: Path
    labels: Path
    names: Path | None = None


def find_label_files(recipe: SegmentRecipe) -> dict[str, LabelledFiles]:
    """Finds the files of the splits of a folder of images with label images.

    A split is `<split>/{images,labels}/`, `{images,labels}/<split>/`, `<split>/` with `<split>_labels/`, a
    folder `<split>/` that holds NAME_mask.png beside NAME.jpg, or the names in
    ImageSets/Segmentation/`<split>.txt` of JPEGImages/ and SegmentationClass/. Where there are no splits,
    the same folders without a split hold all images. labels/ may be called masks/ or annotations/, the
    splits as `crosshead.tasks.splits.NAMES` says.

    Args:
        recipe: names the folder, and the splits where they have other names.

    Returns:
        The files of train, and where the folder has them test and val. A held-out split without label
        images, as test sets are often published, counts as none.

    Raises:
        DataError: if the folder, the training split or one that the recipe names is missing, or no held-out
            split has labels.
    """
    root = existing_folder(recipe.data_dir)
    given = {"train": recipe.train_split, "val": recipe.val_split, "test": recipe.test_split}
    lacking: dict[str, str] = {}

    def missing(split: str, names: Sequence[str]) -> DataError:
        return DataError(
            lacking.get(split)
            or f"{root}: no {split} split ({', '.join(names)}); put images/ and labels/ into {names[0]}/, "
            f"or {names[0]}/ into both, or name it with --{split}-split; without splits put both there"
        )

    def find(split: str, names: Sequence[str]) -> LabelPlace | None:
        for name in names:
            for place in _places(root, name):
                if place.labels.is_dir():
                    return place
                lacks = f"{place.images}: no labels beside it; add {place.labels}/ with label images"
                lacking.setdefault(split, lacks)
        if given[split]:
            raise missing(split, names)
        return None

    places = find_places(find, **given)
    whole = _whole(root)
    if not places and not lacking and whole is not None:
        places["train"] = whole
    if "train" not in places:
        raise missing("train", NAMES["train"])
    if "test" not in places and lacking:
        raise missing("val" if "val" in lacking and "test" not in lacking else "test", NAMES["test"])
    return {
        split: pair_labels(place.images, place.labels, names=place.names) for split, place in places.items()
    }


def has_label_images(root: Path) -> bool:
    """Whether a folder holds images with label images in one of the layouts of `find_label_files`.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> for name in "images/a.jpg", "labels/a.txt":
        ...     (root / name).parent.mkdir(exist_ok=True)
        ...     (root / name).touch()
        >>> has_label_images(root)
        False
    """
    places = [place for names in NAMES.values() for name in names for place in _places(root, name)]
    whole = _whole(root)
    return any(_holds_labels(place.labels) for place in (*places, *([whole] if whole else [])))


def pair_labels(images: Path, labels: Path, *, names: Path | None = None) -> LabelledFiles:
    """Pairs image files with label images of the same name, extensions aside, and of the same size.

    Sizes are those that the headers of the files give: nothing is decoded. Beside NAME a label image may be
    called NAME_mask or the like.

    Args:
        images: the folder of images, searched to any depth.
        labels: the folder of label images: PNG, TIFF, BMP or GIF.
        names: a text file with the names of the images that are meant; by default all.

    Returns:
        The pairs, and what is wrong with other files.

    Raises:
        DataError: if the text file is not readable.

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
    image_files, label_files = _both(images, labels, files.findings)
    if names is not None:
        listed = _listed(names)
        image_files = {name: image_files[name] for name in listed if name in image_files}
        label_files = {name: label_files[name] for name in listed if name in label_files}
        files.findings.extend(
            f"{names}: line {line}: no image {name} in {images}; add it or take the line out"
            for name, line in listed.items()
            if name not in image_files
        )
    if not image_files:
        files.findings.append(f"{images}: no image; put images there")
        return files
    if not image_files.keys() & label_files.keys():
        found = f"{next(iter(label_files.values()), 'none')} for one" if label_files else "which has none"
        files.findings.append(
            f"{images}: none of its {len(image_files)} images has a label image of its name in {labels}, "
            f"{found}; add images and PNG labels of the same names"
        )
        return files
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
    return files


def other_size(label: Path, label_size: Sequence[int], image: Path, size: Sequence[int]) -> DataError:
    """The error of a label image that does not fit its image; sizes are (width, height)."""
    return DataError(
        f"{label}: {label_size[0]} x {label_size[1]} pixels, and {image} has {size[0]} x {size[1]}; make "
        "them the same size"
    )


def _places(root: Path, name: str) -> Iterator[LabelPlace]:
    """Where the split of a name may be: every folder of images that exists, the likeliest labels with it."""
    names = root.joinpath(*LISTS, f"{name}.txt")
    if names.is_file() and (whole := _whole(root)):
        yield LabelPlace(images=whole.images, labels=whole.labels, names=names)
    for images_in, labels_in in (
        (lambda kind: root / name / kind, lambda kind: root / name / kind),
        (lambda kind: root / kind / name, lambda kind: root / kind / name),
    ):
        for kind in _spellings(IMAGE_FOLDERS):
            if images_in(kind).is_dir():
                labels = [labels_in(label) for label in _spellings(LABEL_FOLDERS)]
                yield LabelPlace(images=images_in(kind), labels=_likeliest(labels))
                break
    if (root / name).is_dir():
        beside = [root / f"{name}{ending}" for ending in BESIDE]
        if any(map(Path.is_dir, beside)):
            yield LabelPlace(images=root / name, labels=_likeliest(beside))
        if _mask_beside(root / name):
            yield LabelPlace(images=root / name, labels=root / name)


def _whole(root: Path) -> LabelPlace | None:
    """Where images without splits may be."""
    images = next((root / kind for kind in _spellings(IMAGE_FOLDERS) if (root / kind).is_dir()), None)
    labels = _likeliest([root / kind for kind in _spellings(LABEL_FOLDERS)])
    if images and labels.is_dir():
        return LabelPlace(images=images, labels=labels)
    places = (root, *([images] if images else []))
    return next((LabelPlace(images=place, labels=place) for place in places if _mask_beside(place)), None)


def _likeliest(folders: Sequence[Path]) -> Path:
    """The first of some folders that holds label images, else the first that exists, else the first."""
    there = [folder for folder in folders if folder.is_dir()]
    return next(filter(_holds_labels, there), (*there, *folders)[0])


def _spellings(names: Sequence[str]) -> Iterator[str]:
    written = {"jpegimages": "JPEGImages", "segmentationclass": "SegmentationClass"}
    for name in names:
        yield from (written[name],) if name in written else (name, name.capitalize())


def _holds_labels(folder: Path) -> bool:
    return any(path.suffix.lower() in LABEL_EXTENSIONS for path in folder.rglob("*"))


def _mask_beside(folder: Path) -> bool:
    return any(_owner(path.stem) for path in folder.iterdir() if path.suffix.lower() in LABEL_EXTENSIONS)


def _owner(stem: str) -> str | None:
    """NAME of NAME_mask and the like; None of any other name."""
    return next((stem.removesuffix(ending) for ending in ENDINGS if stem.endswith(ending)), None)


def _both(images: Path, labels: Path, findings: list[str]) -> tuple[dict[str, Path], dict[str, Path]]:
    """Image files and label images by the name that they share."""
    if images == labels:
        shown = [path for path in sorted(images.iterdir()) if not path.name.startswith(".")]
        files = [path for path in shown if path.suffix.lower() in IMG_EXTENSIONS]
        masks = {path: owner for path in files if (owner := _owner(path.stem)) is not None}
        return (
            {path.stem: path for path in files if path not in masks},
            {owner: path for path, owner in masks.items()},
        )
    image_files = _by_name(images, tuple(IMG_EXTENSIONS), findings)
    label_files = _by_name(labels, LABEL_EXTENSIONS, findings)
    renamed = {
        name if name in image_files or (owner := _owner(name)) not in image_files else owner: path
        for name, path in label_files.items()
    }
    return image_files, renamed if len(renamed) == len(label_files) else label_files


def _listed(path: Path) -> dict[str, int]:
    """The names in a text file, and the line of each."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable as a list of names ({error}); save it as UTF-8") from error
    return {line.strip(): number for number, line in enumerate(lines, start=1) if line.strip()}


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

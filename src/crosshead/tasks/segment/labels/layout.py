from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from torchvision.datasets.folder import IMG_EXTENSIONS

from crosshead.tasks.layout import HELD_OUT_NAMES, TRAIN_NAMES, existing_folder
from crosshead.tasks.task import DataError

IMAGE_FOLDERS = ("images", "image")
LABEL_FOLDERS = ("labels", "masks", "annotations", "label", "mask")
LABEL_EXTENSIONS = (".png", ".tif", ".tiff", ".bmp", ".gif")


@dataclass(frozen=True, kw_only=True)
class LabelledPairs:
    """The image files of one split with the label image of each.

    Attributes:
        folder: The folder of the images.
        images: The image files, in the order of their names.
        labels: The label image of each.
        findings: What is wrong with the folders, a line each: files without a partner, or with two.
    """

    folder: Path
    images: list[Path]
    labels: list[Path]
    findings: list[str] = field(default_factory=list)


def find_label_folders(
    data_dir: str | Path | None, *, train: str | None = None, test: str | None = None
) -> tuple[tuple[Path, Path], tuple[Path, Path]]:
    """Find the folders of images and of labels of two splits.

    Two layouts are known: `{train,val}/{images,labels}/` and `{images,labels}/{train,val}/`. Labels may be
    called masks or annotations, and the splits as `load_label_images` says.

    Args:
        data_dir: The folder.
        train: The name of the split to learn from; by default train or training.
        test: The name of the split to measure on; by default the first there is of val, test, valid,
            validation and testing.

    Returns:
        For the training split and the held-out split, the folder of images and that of labels.

    Raises:
        DataError: When `data_dir` is no folder, or a split is missing.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> for kind in "images", "annotations":
        ...     for split in "training", "validation":
        ...         (root / kind / split).mkdir(parents=True)
        >>> [str(labels.relative_to(root)) for images, labels in find_label_folders(root)]
        ['annotations/training', 'annotations/validation']
    """
    root = existing_folder(data_dir)
    return (
        _find_split(root, TRAIN_NAMES if train is None else (train,), "train"),
        _find_split(root, HELD_OUT_NAMES if test is None else (test,), "test"),
    )


def pair_labels(images: Path, labels: Path) -> LabelledPairs:
    """Pair image files with label images of the same name, extensions aside; nothing is opened.

    Args:
        images: The folder of images, searched to any depth.
        labels: The folder of label images: PNG, TIFF, BMP or GIF.

    Returns:
        The pairs, and what has no partner.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> for name in "images/a.jpg", "images/b.jpg", "labels/a.png":
        ...     (root / name).parent.mkdir(exist_ok=True)
        ...     (root / name).touch()
        >>> pairs = pair_labels(root / "images", root / "labels")
        >>> [path.name for path in pairs.images], len(pairs.findings)
        (['a.jpg'], 1)
    """
    findings: list[str] = []
    image_files = _by_name(images, tuple(IMG_EXTENSIONS), findings)
    label_files = _by_name(labels, LABEL_EXTENSIONS, findings)
    for name, path in image_files.items():
        if name not in label_files:
            findings.append(f"{path}: no label image {labels / name}.png; add it or leave the image out")
    for name, path in label_files.items():
        if name not in image_files:
            findings.append(f"{path}: no image of that name in {images}; add it or leave the label image out")
    names = [name for name in image_files if name in label_files]
    if not names:
        findings.append(f"{images}: no image with a label image in {labels}; add images and PNG labels")
    return LabelledPairs(
        folder=images,
        images=[image_files[name] for name in names],
        labels=[label_files[name] for name in names],
        findings=findings,
    )


def _find_split(root: Path, names: tuple[str, ...], role: str) -> tuple[Path, Path]:
    lacking = None
    for name in names:
        for within in (
            lambda kind, name=name: root / name / kind,
            lambda kind, name=name: root / kind / name,
        ):
            images = next((within(kind) for kind in IMAGE_FOLDERS if within(kind).is_dir()), None)
            labels = next((within(kind) for kind in LABEL_FOLDERS if within(kind).is_dir()), None)
            if images is not None and labels is not None:
                return images, labels
            if images is not None:
                lacking = (
                    lacking or f"{images}: no labels beside it; add {within('labels')}/ with label images"
                )
    raise DataError(
        lacking
        or f"{root}: no {role} split ({', '.join(names)}); put it there as {names[0]}/images/ and "
        f"{names[0]}/labels/, or images/{names[0]}/ and labels/{names[0]}/, or give {role}"
    )


def _by_name(folder: Path, extensions: tuple[str, ...], findings: list[str]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in _files(folder):
        name = str(path.relative_to(folder).with_suffix(""))
        if path.suffix.lower() not in extensions:
            findings.append(f"{path}: not among {', '.join(extensions)}; convert it or leave it out")
        elif name in files:
            findings.append(f"{path}: of the same name as {files[name].name}; leave one of them out")
        else:
            files[name] = path
    return files


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith("."))

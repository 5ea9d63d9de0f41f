import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from crosshead.tasks.dense_splits import DetectionSplits
from crosshead.tasks.detect.coco.file import CocoFile, read_coco
from crosshead.tasks.detect.coco.images import CocoImages
from crosshead.tasks.detect.coco.layout import find_coco
from crosshead.tasks.image_measures import find_bands, mean_and_std, spread
from crosshead.tasks.task import DataError

# Images of each split that are decoded with their objects before work starts.
PROBED = 8

logger = logging.getLogger(__name__)


def load_coco(
    data_dir: str | Path | None,
    *,
    masks: bool,
    train: str | None = None,
    test: str | None = None,
    in_chans: int | None = None,
    skip_faulty: bool = False,
) -> DetectionSplits:
    """Load images with labelled objects in COCO format.

    Classes are the categories of the file in the order of their numbers, labelled from 1 on. Boxes that
    reach outside their image by up to a pixel are clipped. Images without objects are kept, crowd regions
    are marked. All entries are checked here; images and masks are decoded when asked for.

    Source: the format is that of T.-Y. Lin et al., "Microsoft COCO: common objects in context",
    arXiv 1405.0312.

    Args:
        data_dir: A folder laid out as `crosshead.tasks.detect.coco.layout.find_coco` describes, such as
            `annotations/instances_{train,val}2017.json` with `{train,val}2017/*.jpg`, or
            `{train,val,test}.json` with `images/*.jpg`.
        masks: Whether to load masks: polygons, run lengths or compressed run lengths.
        train: The split to learn from: its name, or the path of its json file within `data_dir`.
        test: The split to measure on, likewise; by default val where there is one.
        in_chans: 1 or 3; by default 1 where all images are grey, else 3.
        skip_faulty: Leave out annotations with a fault of their own, such as a box of no area, instead of
            refusing the file: the published COCO has some. A warning counts the faults that show here;
            objects whose mask turns out to be empty when it is decoded are left out then.

    Returns:
        Images of any size with their objects.

    Raises:
        DataError: When a file is missing, no json or no COCO; when ids are there twice or dangle; when an
            image is missing; when a box, a mask or an area is unusable. Naming the file and the entry.
        ValueError: When `in_chans` is neither 1 nor 3.

    Example:
        >>> load_coco("no/such/folder", masks=True)
        Traceback (most recent call last):
            ...
        crosshead.tasks.task.DataError: no/such/folder: no such folder; give data_dir a folder that exists
    """
    if in_chans not in (None, 1, 3):
        raise ValueError(f"in_chans is {in_chans}; give 1 (grey), 3 (RGB) or None")
    files = [read_coco(place, masks=masks) for place in find_coco(data_dir, train=train, test=test)]
    findings = [*(finding for file in files for finding in file.findings), *category_differences(files)]
    if findings:
        raise DataError(findings[0])
    for file in files:
        if file.faulty and not skip_faulty:
            raise DataError(file.faulty[0])
        if file.faulty:
            logger.warning(
                "%s: annotations left out for %d faults; %s", file.path, len(file.faulty), file.faulty[0]
            )
    bands = in_chans or find_bands([image.path for image in files[0].images])
    first, second = (
        CocoImages(file.images, file=file.path, masks=masks, in_chans=bands, skip_faulty=skip_faulty)
        for file in files
    )
    mean, std = mean_and_std([first.image(position) for position in spread(len(first))])
    for images in (first, second):
        for position in spread(len(images), most=PROBED):
            images[position]
    entries = [image for file in files for image in file.images]
    return DetectionSplits(
        train=first,
        test=second,
        classes=tuple(files[0].categories.values()),
        category_ids=tuple(files[0].categories),
        masks=masks,
        in_chans=bands,
        min_size=max(min(image.size) for image in entries),
        max_size=max(max(image.size) for image in entries),
        max_objects=max(len(image.objects) for image in entries),
        mean=mean,
        std=std,
    )


def category_differences(files: Sequence[CocoFile]) -> Iterator[str]:
    """List where the categories of two files differ, a line each.

    Args:
        files: The training file and the held-out file.

    Yields:
        The file, the category and the remedy.

    Example:
        >>> files = [CocoFile(path=Path(name), categories={1: name}, images=[]) for name in ("a", "b")]
        >>> list(category_differences(files))
        ["b: category 1 is 'b', and 'a' in a; give both files the same categories"]
    """
    first, second = files
    for number in sorted(first.categories.keys() | second.categories.keys()):
        names = [file.categories.get(number) for file in files]
        if names[0] != names[1]:
            yield (
                f"{second.path}: category {number} is {names[1] or 'missing'!r}, and "
                f"{names[0] or 'missing'!r} in {first.path}; give both files the same categories"
            )

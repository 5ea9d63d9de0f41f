"""Images with annotated objects, whatever format they come from: checked, and decoded when asked for."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from faster_coco_eval.core import mask as codec
from PIL import Image
from torch.utils.data import Dataset

from crosshead.tasks.detect.faults import EMPTY_MASK, corners, object_faults, overshoot
from crosshead.tasks.detect.objects import Objects, no_objects
from crosshead.tasks.images import channel_mode, read_image
from crosshead.tasks.task import DataError

# The masks of one image are an array of a byte for each object and pixel.
MOST_MASK_BYTES = 2 * 2**30


@dataclass(frozen=True, kw_only=True)
class Listed:
    """An image as a file lists it, with its annotations, not checked yet.

    Attributes:
        path: the image file.
        size: width and height in pixels.
        image_id: the number of the image in its file.
        place: what stands before and after the number of an annotation where a message names it.
        annotations: the entries by their numbers, each as COCO writes it: `bbox` (left, top, width, height)
            and, where it has a mask, `segmentation`, in pixels; `category_id`, and `area` and `iscrowd` if
            they are known.
    """

    path: Path
    size: tuple[int, int]
    image_id: int
    place: tuple[str, str]
    annotations: Sequence[tuple[int, dict]]


@dataclass(frozen=True, kw_only=True, eq=False)
class AnnotatedImage:
    """One image with its sound objects; masks are still as the file has them.

    Attributes:
        path: the image file.
        size: width and height in pixels, as the file says.
        objects: without masks; an area that the file does not give is that of the box.
        place: as in `Listed`.
        annotation_ids: the number of each object in the file.
        segmentations: the mask of each object as the file has it, or None.
        unmeasured: bool, (n,): objects whose area the file does not give.
    """

    path: Path
    size: tuple[int, int]
    objects: Objects
    place: tuple[str, str]
    annotation_ids: tuple[int, ...]
    segmentations: tuple[Any, ...] | None
    unmeasured: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Annotations:
    """The annotations of one split.

    Attributes:
        path: the file that says what the classes are.
        categories: the name of each class by its number, in the order of the numbers.
        images: those whose entries are sound, in the order of the file, with their sound objects.
        findings: what is wrong with the files, a line each.
        faulty: what is wrong with single annotations: boxes, masks, areas; a line each.
        clipped: how many boxes reached a little outside their image, by more than a pixel.
    """

    path: Path
    categories: dict[int, str]
    images: list[AnnotatedImage]
    findings: list[str] = field(default_factory=list)
    faulty: list[str] = field(default_factory=list)
    clipped: int = 0


def annotate(
    path: Path,
    categories: Mapping[int, str],
    listed: Sequence[Listed],
    *,
    masks: bool,
    findings: Sequence[str] = (),
    faulty: Sequence[str] = (),
) -> Annotations:
    """Checks all that shows without opening an image or decoding a mask, and keeps what is sound.

    Args:
        path: the file that says what the classes are.
        categories: the name of each class by its number; labels are positions in the order of the numbers,
            from 1 on.
        listed: the images.
        masks: whether objects need masks; without, masks are not looked at.
        findings: what is known to be wrong with the files.
        faulty: what is known to be wrong with annotations.
    """
    labels = {number: label for label, number in enumerate(sorted(categories), start=1)}
    more_findings, more_faulty, images, clipped = list(findings), list(faulty), [], 0
    entries = [entry for image in listed for _, entry in image.annotations]
    if masks and len(entries) > 1 and not any(entry.get("segmentation") for entry in entries):
        more_findings.append(
            f"{path}: none of its {len(entries)} annotations has a mask; draw masks, or train boxes alone "
            "(crosshead train detect)"
        )
        masks = False
    for image in listed:
        sound, (before, after) = [], image.place
        for number, entry in image.annotations:
            faults = list(object_faults(entry, image.size, masks=masks))
            more_faulty += [f"{before}{number}{after}: {fault}" for fault in faults]
            if not faults:
                sound.append((number, entry))
                clipped += overshoot(entry["bbox"], image.size)
        if masks and len(sound) * image.size[0] * image.size[1] > MOST_MASK_BYTES:
            more_findings.append(
                f"{image.path}: masks of {len(sound)} objects in {image.size[0]} x {image.size[1]} pixels "
                "need more than 2 GiB; cut the image up, or load boxes alone"
            )
        else:
            images.append(_annotated(image, sound, labels, masks=masks))
    return Annotations(
        path=path,
        categories={number: categories[number] for number in sorted(categories)},
        images=images,
        findings=more_findings,
        faulty=more_faulty,
        clipped=clipped,
    )


class AnnotatedImages(Dataset[tuple[Image.Image, Objects]]):
    """Images with their objects, decoded when asked for.

    Args:
        annotations: of one split.
        masks: whether to decode masks.
        in_chans: 1 or 3, to which images are brought.
        bits: as `read_image` takes it.
        skip_faulty: whether objects whose mask turns out to be empty or damaged are left out.
    """

    def __init__(
        self,
        annotations: Annotations,
        *,
        masks: bool,
        in_chans: int,
        bits: int | None = None,
        skip_faulty: bool = False,
    ) -> None:
        self.images, self.file = annotations.images, annotations.path
        self.masks, self.in_chans, self.bits, self.skip_faulty = masks, in_chans, bits, skip_faulty

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Image.Image, Objects]:
        """Decodes an image and its masks.

        Raises:
            DataError: if the image is unreadable or not of the size that the file says, or a mask is damaged
                or empty.
        """
        return self.image(index), self.objects(index)

    def image(self, index: int) -> Image.Image:
        """Decodes an image alone."""
        entry = self.images[index]
        image = read_image(entry.path, mode=channel_mode(self.in_chans), bits=self.bits)
        if image.size != entry.size:
            raise DataError(
                f"{entry.path}: {image.width} x {image.height} pixels, and {self.file} says "
                f"{entry.size[0]} x {entry.size[1]}; correct the one that is wrong"
            )
        return image

    def objects(self, index: int) -> Objects:
        """Decodes the objects of an image alone."""
        entry, found = self.images[index], self.images[index].objects
        if not self.masks:
            return found
        masks = np.zeros((len(found), *entry.size[::-1]), np.uint8)
        kept = np.ones(len(found), bool)
        for position in range(len(found)):
            try:
                masks[position] = self._mask(entry, position)
            except DataError:
                if not self.skip_faulty:
                    raise
                kept[position] = False
        if not kept.all():
            masks = masks[kept]
        area = np.where(entry.unmeasured[kept], masks.sum(axis=(1, 2)), found.area[kept])
        return replace(
            found,
            boxes=found.boxes[kept],
            labels=found.labels[kept],
            masks=masks,
            crowd=found.crowd[kept],
            area=area.astype(np.float32),
        )

    def findings(self, index: int) -> Iterator[str]:
        """Decodes an image and each of its masks, and lists what is wrong with them, a line each."""
        entry = self.images[index]
        try:
            self.image(index)
        except DataError as error:
            yield str(error)
        for position in range(len(entry.objects) if self.masks and entry.segmentations is not None else 0):
            try:
                self._mask(entry, position)
            except DataError as error:
                yield str(error)

    def _mask(self, entry: AnnotatedImage, position: int) -> np.ndarray:
        assert entry.segmentations is not None
        try:
            return decode_mask(entry.segmentations[position], size=entry.size)
        except DataError as error:
            before, after = entry.place
            raise DataError(f"{before}{entry.annotation_ids[position]}{after}: {error}") from error


def decode_mask(segmentation: Any, *, size: tuple[int, int]) -> np.ndarray:
    """Paints the mask of an object, as the evaluation reads it: by faster-coco-eval.

    Args:
        segmentation: polygons or run lengths in which `segmentation_fault` has found nothing.
        size: width and height of the image in pixels.

    Returns:
        uint8, (height, width), 1 inside.

    Raises:
        DataError: if the run lengths are damaged or do not fill the image, or no pixel is inside.

    Example:
        >>> decode_mask({"size": [2, 3], "counts": [1, 3, 2]}, size=(3, 2))
        array([[0, 1, 0],
               [1, 1, 0]], dtype=uint8)
    """
    width, height = size
    try:
        if isinstance(segmentation, list):
            parts: Any = codec.frPyObjects(segmentation, height, width)
            runs: Any = codec.merge(parts)
        elif isinstance(segmentation["counts"], list):
            runs = codec.frPyObjects(segmentation, height, width)
        else:
            runs = segmentation
        mask = codec.decode(runs)
    # The codec refuses damaged run lengths with either.
    except (ValueError, RuntimeError) as error:
        raise DataError(
            f"mask cannot be decoded ({error}); correct it or leave the annotation out"
        ) from error
    if not mask.any():
        raise DataError(EMPTY_MASK)
    return np.ascontiguousarray(mask)


def _annotated(
    image: Listed, annotations: Sequence[tuple[int, dict]], labels: Mapping[int, int], *, masks: bool
) -> AnnotatedImage:
    entries = [entry for _, entry in annotations]
    objects = no_objects(image_id=image.image_id, size=image.size, masks=False)
    unmeasured = np.array([each.get("area") is None for each in entries], bool)
    if entries:
        boxes = np.array([corners(each["bbox"], image.size) for each in entries], np.float32)
        areas = np.array([each.get("area") or 0 for each in entries], np.float32)
        objects = Objects(
            boxes=boxes,
            labels=np.array([labels[each["category_id"]] for each in entries], np.int64),
            masks=None,
            crowd=np.array([bool(each.get("iscrowd", 0)) for each in entries]),
            area=np.where(unmeasured, np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), areas),
            image_id=image.image_id,
        )
    return AnnotatedImage(
        path=image.path,
        size=image.size,
        objects=objects,
        place=image.place,
        annotation_ids=tuple(number for number, _ in annotations),
        segmentations=tuple(each["segmentation"] for each in entries) if masks else None,
        unmeasured=unmeasured,
    )

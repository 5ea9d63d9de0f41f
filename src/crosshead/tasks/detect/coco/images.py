from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from crosshead.tasks.dense_splits import Objects
from crosshead.tasks.detect.coco.file import CocoImage
from crosshead.tasks.detect.coco.masks import decode_mask
from crosshead.tasks.image_measures import band_mode
from crosshead.tasks.images import read_image
from crosshead.tasks.task import DataError


class CocoImages(Dataset[tuple[Image.Image, Objects]]):
    """Images with their objects, decoded when asked for.

    Args:
        images: The entries.
        file: The file of annotations, for messages.
        masks: Whether to decode masks.
        in_chans: 1 or 3, to which images are brought.
        skip_faulty: Whether objects whose mask turns out to be empty or damaged are left out.

    Example:
        >>> from tempfile import mkdtemp
        >>> path = Path(mkdtemp(), "grey.png")
        >>> Image.new("L", (6, 4)).save(path)
        >>> from crosshead.tasks.detect.coco.file import no_objects
        >>> objects = no_objects(image_id=1, size=(6, 4), masks=False)
        >>> entry = CocoImage(path=path, size=(6, 4), objects=objects, annotation_ids=(),
        ...                   segmentations=None, unmeasured=np.zeros(0, bool))
        >>> image, objects = CocoImages([entry], file=path, masks=False, in_chans=3)[0]
        >>> image.mode, len(objects)
        ('RGB', 0)
    """

    def __init__(
        self,
        images: Sequence[CocoImage],
        *,
        file: Path,
        masks: bool,
        in_chans: int,
        skip_faulty: bool = False,
    ) -> None:
        self.images = images
        self.file = file
        self.masks = masks
        self.in_chans = in_chans
        self.skip_faulty = skip_faulty

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Image.Image, Objects]:
        """Decode an image and its masks.

        Args:
            index: Position in the file.

        Returns:
            The image and its objects.

        Raises:
            DataError: When the image is unreadable or not of the size that the file says, or a mask is
                damaged or empty.
        """
        return self.image(index), self.objects(index)

    def image(self, index: int) -> Image.Image:
        """Decode an image alone."""
        entry = self.images[index]
        image = read_image(entry.path, mode=band_mode(self.in_chans))
        if image.size != entry.size:
            raise DataError(
                f"{entry.path}: {image.width} x {image.height} pixels, and {self.file} says "
                f"{entry.size[0]} x {entry.size[1]}; correct the one that is wrong"
            )
        return image

    def objects(self, index: int) -> Objects:
        """Decode the objects of an image alone."""
        entry = self.images[index]
        if not self.masks or not len(entry.objects):
            return replace(
                entry.objects, masks=np.zeros((0, *entry.size[::-1]), np.uint8) if self.masks else None
            )
        decoded: list[np.ndarray] = []
        kept: list[int] = []
        for position in range(len(entry.objects)):
            try:
                decoded.append(self._mask(entry, position))
                kept.append(position)
            except DataError:
                if not self.skip_faulty:
                    raise
        masks = np.stack(decoded) if decoded else np.zeros((0, *entry.size[::-1]), np.uint8)
        area = np.where(entry.unmeasured[kept], masks.sum(axis=(1, 2)), entry.objects.area[kept])
        return Objects(
            boxes=entry.objects.boxes[kept],
            labels=entry.objects.labels[kept],
            masks=masks,
            crowd=entry.objects.crowd[kept],
            area=area.astype(np.float32),
            image_id=entry.objects.image_id,
        )

    def findings(self, index: int) -> Iterator[str]:
        """Decode an image and each of its masks, and list what is wrong with them.

        Args:
            index: Position in the file.

        Yields:
            A line for each fault.
        """
        entry = self.images[index]
        try:
            self.image(index)
        except DataError as error:
            yield str(error)
        for position in range(len(entry.objects) if self.masks else 0):
            try:
                self._mask(entry, position)
            except DataError as error:
                yield str(error)

    def _mask(self, entry: CocoImage, position: int) -> np.ndarray:
        assert entry.segmentations is not None
        try:
            return decode_mask(entry.segmentations[position], size=entry.size)
        except DataError as error:
            raise DataError(
                f"{self.file}: annotation {entry.annotation_ids[position]} of image "
                f"{entry.objects.image_id} ({entry.path.name}): {error}"
            ) from error

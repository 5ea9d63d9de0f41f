"""What a detector sees: objects, as JSON and as pictures."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from faster_coco_eval.core import mask as codec
from PIL import Image
from torch import nn
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as F

from crosshead.tasks.detect.data import DetectMeta
from crosshead.tasks.detect.objects import Objects
from crosshead.tasks.detect.pictures import draw_objects, draw_with_legend
from crosshead.tasks.detect.tiles import detect
from crosshead.tasks.net import device_of
from crosshead.tasks.pictures import chosen, class_colors, draw_grid
from crosshead.tasks.result import Result
from crosshead.tasks.sources import Input

# An image this many times as long as those of the training would be scaled down until its objects vanish.
MUCH_LARGER = 1.5


@dataclass(frozen=True, kw_only=True)
class DetectResult(Result):
    """The objects in an image, best first.

    Attributes:
        image: as the net was given it.
        classes: all classes; label k is `classes[k - 1]`.
        category_ids: the number that the training's files give each class.
        boxes: (n, 4), left, top, right and bottom in pixels of the image.
        labels: (n,), from 1 on.
        scores: (n,), 0 to 1.
        masks: (n, height, width), bool; None from a net without masks.
    """

    image: Image.Image
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    masks: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def names(self) -> list[str]:
        """The class of each object."""
        return [self.classes[label - 1] for label in self.labels.tolist()]

    @property
    def summary(self) -> str:
        """How many objects, and how many of each class."""
        named = ", ".join(f"{name} {count}" for name, count in Counter(self.names).most_common())
        return f"{len(self)} object{'' if len(self) == 1 else 's'}" + (f": {named}" if named else "")

    def to_dict(self) -> dict[str, Any]:
        """`image`, `size` as width and height, and `objects` in COCO's terms.

        Each has `class`, `category_id`, `score`, `bbox` as left, top, width and height in pixels, and of a
        net with masks `segmentation` in COCO's compressed run lengths.
        """
        objects = [self._as_coco(number) for number in range(len(self))]
        return {"image": self.source, "size": list(self.image.size), "objects": objects}

    def rows(self) -> list[dict[str, Any]]:
        """A row for each object: `image`, `class`, `score`, `left`, `top`, `width`, `height`."""
        rows = []
        for each in map(self._as_coco, range(len(self))):
            box = dict(zip(("left", "top", "width", "height"), each["bbox"], strict=True))
            rows.append({"image": self.source, "class": each["class"], "score": each["score"], **box})
        return rows

    def plot(self) -> Image.Image:
        """The objects drawn into the image; of several classes the colours are told below it."""
        return draw_with_legend(
            self.image,
            boxes=self.boxes,
            labels=self.labels,
            classes=self.classes,
            scores=self.scores,
            masks=self.masks,
        )

    def _as_coco(self, number: int) -> dict[str, Any]:
        left, top, right, bottom = (round(value, 2) for value in self.boxes[number].tolist())
        label = int(self.labels[number])
        content: dict[str, Any] = {
            "class": self.classes[label - 1],
            "category_id": self.category_ids[label - 1],
            "score": round(float(self.scores[number]), 4),
            "bbox": [left, top, round(right - left, 2), round(bottom - top, 2)],
        }
        if self.masks is not None:
            runs: Any = codec.encode(np.asfortranarray(self.masks[number].astype(np.uint8)))
            content["segmentation"] = {"size": list(runs["size"]), "counts": runs["counts"].decode()}
        return content


def predict_objects(
    meta: DetectMeta, net: nn.Module, each: Input, *, min_score: float = 0.5, tile: int | None = None
) -> DetectResult:
    """The objects in an image.

    Args:
        meta: of the images that the net was trained on.
        net: a detector in evaluation mode.
        each: an image of any size.
        min_score: objects that the detector is less sure of are left out.
        tile: larger images are seen in tiles of this side in pixels, 0 for never; by default images much
            larger than those of the training are, in tiles of their long side.

    Raises:
        ValueError: if an option is out of its range.
    """
    if not 0 <= min_score <= 1:
        raise ValueError(f"min_score must be a number between 0 and 1; got {min_score}")
    if tile is not None and tile < 0:
        raise ValueError(f"tile must be 1 pixel or more, or 0 to see images whole; got {tile}")
    if tile is None and max(each.content.size) > MUCH_LARGER * meta.max_size:
        tile = meta.max_size
    return DetectResult(
        name=each.name,
        source=each.source,
        image=each.content,
        classes=meta.classes,
        category_ids=meta.category_ids,
        **_objects_in(net, each.content, min_score=min_score, tile=tile or None),
    )


def coco_file(results: Sequence[DetectResult]) -> dict[str, Any]:
    """Results as one file of COCO's format, whose annotations have a `score` beside what COCO asks for.

    Args:
        results: of one net.
    """
    images, annotations, categories = [], [], {}
    for image_id, result in enumerate(results, 1):
        width, height = result.image.size
        images.append({"id": image_id, "file_name": result.source, "width": width, "height": height})
        categories |= dict(zip(result.category_ids, result.classes, strict=True))
        for each in result.to_dict()["objects"]:
            _, _, w, h = each["bbox"]
            name = {key: value for key, value in each.items() if key != "class"}
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image_id, **name, "area": w * h, "iscrowd": 0}
            )
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in categories.items()],
    }


def show_objects(title: str, images: Dataset, meta: DetectMeta, model: nn.Module) -> bytes:
    """Draws a few images of a set with truth and prediction.

    Args:
        title: what stands above them.
        images: the images with their objects.
        meta: of the images that the net was trained on.
        model: the net.

    Returns:
        A PNG file.
    """
    model, rows = model.eval(), []
    for position in chosen(len(images)):  # pyright: ignore[reportArgumentType] (map-style sets have a length)
        image, truth = images[position]
        expected = labelled(truth, meta)
        found = _objects_in(model, image, min_score=0.5, tile=None)
        rows.append(
            [
                (f"test image {position}", image.convert("RGB")),
                (f"truth: {len(truth)}", draw_objects(image, classes=meta.classes, **expected)),
                (f"prediction: {len(found['boxes'])}", draw_objects(image, classes=meta.classes, **found)),
            ]
        )
    return draw_grid(rows, title=title, legend=class_colors(meta.classes) if len(meta.classes) > 1 else None)


def labelled(truth: Objects, meta: DetectMeta) -> dict[str, Any]:
    """Boxes, labels and, where the net is to make them, masks, as `draw_objects` takes them."""
    return {"boxes": truth.boxes, "labels": truth.labels, "masks": truth.masks if meta.masks else None}


def _objects_in(
    model: nn.Module, image: Image.Image, *, min_score: float, tile: int | None
) -> dict[str, Any]:
    """Boxes, labels, scores and, where the net makes them, masks of the objects in an image, best first."""
    tensor = F.to_dtype(F.to_image(image), torch.float32, scale=True)
    found = detect(model, tensor.to(device_of(model)), tile=tile)
    sure = found["scores"] >= min_score
    return {name: values[sure].cpu().numpy() for name, values in found.items()}

"""What a detector sees: objects, as JSON and as pictures."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from faster_coco_eval.core import mask as codec
from PIL import Image
from torch import nn
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as F

from crosshead.tasks.detect.data import DetectMeta
from crosshead.tasks.detect.pictures import draw_objects
from crosshead.tasks.detect.tiles import detect
from crosshead.tasks.images import channel_mode, read_image
from crosshead.tasks.pictures import chosen, class_colors, draw_grid
from crosshead.tasks.task import Prediction, png

# An image this many times as long as those of the training would be scaled down until its objects vanish.
MUCH_LARGER = 1.5


def predict_objects(
    meta: DetectMeta, model: nn.Module, path: Path, *, min_score: float = 0.5, tile: int | None = None
) -> Prediction:
    """The objects in an image.

    Args:
        meta: of the images that the net was trained on.
        model: a detector in evaluation mode.
        path: an image of any size.
        min_score: objects that the detector is less sure of are left out.
        tile: larger images are seen in tiles of this side in pixels, 0 for never; by default images much
            larger than those of the training are, in tiles of their long side.

    Returns:
        A picture, and a list of objects: class, COCO's category id, score, box as left, top, width and
        height in pixels, and mask in COCO's compressed run lengths.

    Raises:
        DataError: if the image cannot be read.
        ValueError: if an option is out of its range.
    """
    if not 0 <= min_score <= 1:
        raise ValueError(f"min_score must be a number between 0 and 1; got {min_score}")
    if tile is not None and tile < 0:
        raise ValueError(f"tile must be 1 pixel or more, or 0 to see images whole; got {tile}")
    image = read_image(path, mode=channel_mode(meta.in_chans))
    if tile is None and max(image.size) > MUCH_LARGER * meta.max_size:
        tile = meta.max_size
    found = _objects_in(model, image, min_score=min_score, tile=tile or None)
    objects = [_as_coco(meta, found, number) for number in range(len(found["boxes"]))]
    counts = Counter(each["class"] for each in objects)
    named = ", ".join(f"{name} {count}" for name, count in counts.most_common())
    return Prediction(
        name=path.stem,
        summary=f"{len(objects)} object{'' if len(objects) == 1 else 's'}" + (f": {named}" if named else ""),
        content={"image": str(path), "size": list(image.size), "objects": objects},
        files={".png": png(draw_objects(image, classes=meta.classes, **found))},
    )


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
        expected = {
            "boxes": truth.boxes,
            "labels": truth.labels,
            "masks": truth.masks if meta.masks else None,
        }
        found = _objects_in(model, image, min_score=0.5, tile=None)
        rows.append(
            [
                (f"test image {position}", image.convert("RGB")),
                (f"truth: {len(truth)}", draw_objects(image, classes=meta.classes, **expected)),
                (f"prediction: {len(found['boxes'])}", draw_objects(image, classes=meta.classes, **found)),
            ]
        )
    return draw_grid(rows, title=title, legend=class_colors(meta.classes) if len(meta.classes) > 1 else None)


def _objects_in(
    model: nn.Module, image: Image.Image, *, min_score: float, tile: int | None
) -> dict[str, Any]:
    """Boxes, labels, scores and, where the net makes them, masks of the objects in an image, best first."""
    tensor = F.to_dtype(F.to_image(image), torch.float32, scale=True)
    found = detect(model, tensor.to(next(model.parameters()).device), tile=tile)
    sure = found["scores"] >= min_score
    return {name: values[sure].cpu().numpy() for name, values in found.items()}


def _as_coco(meta: DetectMeta, found: dict[str, np.ndarray], number: int) -> dict[str, Any]:
    left, top, right, bottom = (round(value, 2) for value in found["boxes"][number].tolist())
    label = int(found["labels"][number])
    content: dict[str, Any] = {
        "class": meta.classes[label - 1],
        "category_id": meta.category_ids[label - 1],
        "score": round(float(found["scores"][number]), 4),
        "bbox": [left, top, round(right - left, 2), round(bottom - top, 2)],
    }
    if "masks" in found:
        runs: Any = codec.encode(np.asfortranarray(found["masks"][number].astype(np.uint8)))
        content["segmentation"] = {"size": list(runs["size"]), "counts": runs["counts"].decode()}
    return content

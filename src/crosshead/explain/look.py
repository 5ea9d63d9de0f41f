"""One image as a trained net sees it: what went in, what came out, and what its attention worked from.

Legend: `B` batch, `C` channels.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from crosshead.explain.layers import Layers, attention_layers
from crosshead.explain.record import record
from crosshead.explain.recording import Recording
from crosshead.runs.trained import TrainedModel
from crosshead.tasks.result import Result
from crosshead.tasks.task import Meta

# Images of other kinds than grey and colour are stretched between these of their values.
DARKEST, BRIGHTEST = 0.01, 0.99


@dataclass(frozen=True, kw_only=True, eq=False)
class Look:
    """A prediction, and what the attention layers worked from while it was made.

    Attributes:
        result: what the net made of the input.
        images: what went through the layers, as pictures: resized, cropped and padded as the net does it. One
            for each sample of the recorded calls: of two dates two.
        recording: the calls of the layers.
        asked: the module that was called first, and with what: to call it again.
    """

    result: Result
    images: tuple[Image.Image, ...]
    recording: Recording
    asked: tuple[nn.Module, tuple[Any, ...]]


def look(model: TrainedModel, source: Any, *, layers: Layers = None, **options: Any) -> Look:
    """Predicts, and keeps what the net was given and what its attention layers worked from.

    The image is seen whole, never in windows: a map belongs to one pass.

    Args:
        model: from `crosshead.load`.
        source: one image, as `model.predict` takes it; of a change detection a pair.
        layers: as for `record`; None for all.
        **options: of `model.predict`.

    Raises:
        ValueError: if the net has no interactive attention or no such layer; if `source` is several images.
        DataError: if a file cannot be read.

    Example:
        >>> import crosshead  # doctest: +SKIP
        >>> seen = look(crosshead.load("runs/digits-1"), "digit.png")  # doctest: +SKIP
        >>> seen.recording.names  # doctest: +SKIP
        ['stages.1.blocks.0.attn', 'stages.2.blocks.0.attn', 'stages.2.blocks.1.attn']
    """
    attention_layers(model.net)
    if "tile" in model.options:
        options.setdefault("tile", 0)
    with record(model.net, layers) as recording, _inputs(model.net, recording) as given:
        result = model.predict(source, **options)
    if not isinstance(result, Result):
        raise ValueError(f"source must be a single image; got several, from {source}: look at one at a time")
    batch = len(recording.calls[0].x)
    seen = next(images for images in given.images if len(images) == batch)
    pictures = tuple(_picture(image, model.meta, raw=model.pairs) for image in seen.cpu().float())
    return Look(result=result, images=pictures, recording=recording, asked=given.first)


class _Given:
    """What modules of a net were called with, up to its first attention layer."""

    def __init__(self) -> None:
        self.images: list[Tensor] = []
        self.first: Any = None


@contextmanager
def _inputs(net: nn.Module, recording: Recording) -> Iterator[_Given]:
    given, inside = _Given(), set(net.modules())

    def note(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        if recording.calls or not arguments or module not in inside:
            return
        if given.first is None:
            given.first = module, arguments
        if isinstance(arguments[0], Tensor) and arguments[0].ndim == 4:
            given.images.append(arguments[0])

    hook = register_module_forward_pre_hook(note)
    try:
        yield given
    finally:
        hook.remove()


def _picture(image: Tensor, meta: Meta, *, raw: bool) -> Image.Image:
    """A normalised image, (C, height, width), as the file showed it; of many bands the first three."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (meta.mean, meta.std))
    image = image * std + mean
    image = image[:3] if len(image) >= 3 else image[:1]
    if raw or meta.in_chans not in (1, 3):
        low, high = np.quantile(image.numpy(), [DARKEST, BRIGHTEST])
        image = (image - low) / max(high - low, 1e-12)
    pixels = (255 * image.clamp(0, 1)).round().byte().permute(1, 2, 0).numpy()
    return Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels)

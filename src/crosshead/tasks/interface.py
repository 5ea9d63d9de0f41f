"""What goes into an exported net and what comes out, in words that a reader without Python understands."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

from pydantic import TypeAdapter

from crosshead.tasks.task import Meta

Pair = tuple[int, int]
# Images of 8 bits a channel.
PIXEL = 255.0


@dataclass(frozen=True, kw_only=True)
class NetInput:
    """One input of a net: float32, (batch, channels, height, width).

    What the net is given is `(pixels / scale - mean) / std`, channel by channel.

    Attributes:
        name: of the input.
        channels: grey for 1, red, green and blue for 3.
        scale: what the numbers of a file are divided by first.
        mean: of each channel.
        std: of each channel.
    """

    name: str
    channels: int
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of_images(cls, meta: Meta) -> Self:
        """Images as files hold them, of 8 bits a channel.

        Args:
            meta: of the images that the net was trained on.
        """
        return cls(name="images", channels=meta.in_chans, scale=PIXEL, mean=meta.mean, std=meta.std)


@dataclass(frozen=True, kw_only=True)
class Objects:
    """What is particular to a net that finds objects, in one image at a time.

    Its last input is a number, `min_score`. Beside `boxes` (left, top, right and bottom, in pixels of the
    image that it is given) it gives `labels`, from 1 on, `scores`, best first, and perhaps `masks`.

    Attributes:
        min_score: what the run itself takes: objects of less are left out.
        longer_side: what the longer side of an image must not exceed once the shorter one is resized: where
            it would, the longer one is resized to this instead.
        mask_side: height and width of a mask, stretched over its box; None where there are no masks.
    """

    min_score: float
    longer_side: int
    mask_side: int | None = None


@dataclass(frozen=True, kw_only=True)
class Interface:
    """How an exported net is called.

    Attributes:
        inputs: in order, all of one height and width; the batch is free.
        output: its name: `logits` of an image, `scores` of each pixel, both before the softmax, `tokens`, or
            `boxes`.
        axes: names of the axes of the output.
        method: which method of the net in PyTorch it stands for.
        trained: height and width of the training, in pixels.
        multiple: what height and width have to be multiples of.
        fixed: whether the net takes images of the trained size alone.
        shorter_side: what the shorter side of an image is resized to before the centre of the trained size is
            cut out, or nothing of a net that finds objects; None where images are given as they are.
        prefix_tokens: how many tokens come before those of the patches.
        objects: more of a net that finds objects.
    """

    inputs: tuple[NetInput, ...]
    output: str
    axes: tuple[str, ...]
    method: str
    trained: Pair
    multiple: Pair = (1, 1)
    fixed: bool = False
    shorter_side: int | None = None
    prefix_tokens: int = 0
    objects: Objects | None = None

    @property
    def input_names(self) -> list[str]:
        """All that goes in."""
        return [given.name for given in self.inputs] + ([] if self.objects is None else ["min_score"])

    @property
    def output_names(self) -> list[str]:
        """All that comes out."""
        if self.objects is None:
            return [self.output]
        return [self.output, "labels", "scores", *(["masks"] if self.objects.mask_side else [])]

    def refusal(self, shape: tuple[int, ...], number: int = 0) -> str | None:
        """Why the net does not take an input of this shape; None where it does.

        Args:
            shape: of the input.
            number: which input it is.

        Example:
            >>> image = NetInput(name="images", channels=3, scale=255, mean=(0.5,) * 3, std=(0.2,) * 3)
            >>> net = Interface(
            ...     inputs=(image,), output="logits", axes=("batch", "class"), method="forward",
            ...     trained=(32, 32), multiple=(4, 4)
            ... )
            >>> net.refusal((1, 3, 64, 30))
            'images must be (batch, 3, height, width), sides multiples of 4 and 4; got (1, 3, 64, 30)'
        """
        given = self.inputs[number]
        batch, sides, condition = "batch", "height, width", ""
        if self.objects is not None:
            batch = "1"
        if self.fixed:
            sides = ", ".join(map(str, self.trained))
        elif self.multiple != (1, 1):
            condition = f", sides multiples of {self.multiple[0]} and {self.multiple[1]}"
        fits = len(shape) == 4 and shape[1] == given.channels and self._takes(shape[2:])
        if fits and (self.objects is None or shape[0] == 1):
            return None
        return f"{given.name} must be ({batch}, {given.channels}, {sides}){condition}; got {tuple(shape)}"

    def _takes(self, size: tuple[int, ...]) -> bool:
        if self.fixed:
            return size == self.trained
        return not any(side % step for side, step in zip(size, self.multiple, strict=True))

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def of_json(cls, text: str) -> Self:
        """What `as_json` gave, as text.

        Raises:
            ValueError: if a field is missing or of another type.
        """
        return TypeAdapter(cls).validate_json(text, strict=True)

"""One training of a study: what is trained on what, for how long, from which seed. Imports no torch."""

import ast
import dataclasses
import re
from dataclasses import dataclass
from typing import Any, Literal

Data = Literal["digits", "fashion-mnist", "cifar10", "pathfinder", "list-ops"]
# Bands of an image; symbols of a sequence, padding among them.
BANDS: dict[Data, int] = {"digits": 1, "fashion-mnist": 1, "cifar10": 3, "pathfinder": 1, "list-ops": 16}
Split = Literal["validation", "test"]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The model around the attention.

    Attributes:
        image_size: side of the images in pixels; tokens of a sequence.
        patch_size: side of a patch; 1 for sequences.
        dim: channels `C`.
        depth: blocks.
        heads: heads `H`.
        mlp_ratio: hidden channels of the MLPs over `C`, before parameters are matched.
        landmarks: cells along each axis; of a sequence, cells in all.

    Example:
        >>> Shape(image_size=28, patch_size=2, dim=64, depth=2, heads=8, mlp_ratio=2, landmarks=7).side
        14
    """

    image_size: int
    patch_size: int
    dim: int
    depth: int
    heads: int
    mlp_ratio: float
    landmarks: int

    @property
    def side(self) -> int:
        """Tokens along an axis of the image; of a sequence, all."""
        return self.image_size // self.patch_size


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Everything that decides the result of one training; equal trials are the same training.

    Attributes:
        data: where the samples come from.
        split: what it is measured on: a part carved from the training set, or the test set.
        attention: the mechanism, with options after a colon: `interactive:mixing=none,local_kernel=3`.
        shape: the model around it.
        samples: how many samples it is trained on, repetitions counted.
        batch_size: samples a step.
        learning_rate: at the peak of the schedule.
        weight_decay: of AdamW.
        precision: Lightning's name of it.
        seed: of the weights, the order and the augmentation.
    """

    data: Data
    split: Split
    attention: str
    shape: Shape
    samples: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    precision: str
    seed: int

    @property
    def tokens(self) -> int:
        """Tokens `N` of a sample."""
        return self.shape.side if self.data == "list-ops" else self.shape.side**2

    def facts(self) -> dict[str, Any]:
        """The columns of a table that say which trial a row belongs to."""
        facts = {**vars(self), **dataclasses.asdict(self.shape)}
        del facts["shape"]
        return facts

    def key(self) -> tuple[str, ...]:
        """What a row of a CSV must hold to be this trial's."""
        return tuple(str(value) for value in self.facts().values())


def attention_options(attention: str) -> tuple[str, dict[str, Any]]:
    """The name of a mechanism, and its options.

    Raises:
        ValueError: an option without a name or a value.

    Example:
        >>> attention_options("interactive:mixing=none,local_kernel=3")
        ('interactive', {'mixing': 'none', 'local_kernel': 3})
        >>> attention_options("ivit:attention_stages=(2,3)")
        ('ivit', {'attention_stages': (2, 3)})
    """
    name, _, listed = attention.partition(":")
    options: dict[str, Any] = {}
    for pair in filter(None, re.split(r",(?![^(]*\))", listed)):
        option, equals, text = pair.partition("=")
        if not (option.isidentifier() and equals and text):
            raise ValueError(f"attention {attention!r} holds {pair!r}: give name:option=value,option=value")
        try:
            options[option] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            options[option] = text
    return name, options

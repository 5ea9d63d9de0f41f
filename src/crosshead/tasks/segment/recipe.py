"""The choices of a semantic segmentation. Imports neither torch nor lightning."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from crosshead.tasks.recipe import Recipe

Format = Literal["label-images", "coco", "yolo", "cvat"]


@dataclass(frozen=True, kw_only=True)
class SegmentRecipe(Recipe):
    """Training of a net that labels every pixel. Each field is a flag of `crosshead train`.

    Example:
        >>> SegmentRecipe(data="folder", model="ivit_nano", epochs=1, crop=0).check()
        Traceback (most recent call last):
            ...
        ValueError: crop is 0: give 1 or more
    """

    task: ClassVar[str] = "segment"
    gives: ClassVar[str] = "A class for each pixel"

    data: Literal["folder", "fashion-scenes"]
    """Images in --data-dir with label images, or with objects whose masks are painted; or scenes made of
    Fashion-MNIST."""
    format: Format | None = None
    """Label images, or the format of the objects; by default what lies in the folder."""
    test: float = 0.2
    """Fraction of the images to test on, where the data set has no held-out split; always the same images."""
    train_split: str | None = None
    """Name of the split to learn from, where it is not the usual one."""
    val_split: str | None = None
    """Name of the split to validate on, likewise; without one, --val of the training images are held back."""
    test_split: str | None = None
    """Name of the split to test on, likewise."""
    in_chans: int | None = None
    """1 for grey images or 3 for colour; by default as the files are."""
    ignore_index: int | None = 255
    """Value of pixels without a class in label images; None where all have one."""
    reduce_zero_label: bool = False
    """The value 0 stands for no class too, as in ADE20K."""
    class_names: tuple[str, ...] | None = None
    """Names of the classes; by default those of a list or a colour map in the folder, or the values found."""
    skip_faulty: bool = False
    """Leave out faulty annotations of objects in place of refusing the data set."""
    scenes: tuple[int, int] = (4000, 500)
    """How many scenes to make of Fashion-MNIST, to train and to test."""
    scene_size: int = 128
    """Side of those scenes in pixels."""

    decoder: Literal["upernet", "fpn"] = "upernet"
    """The decoder, of segmentation-models-pytorch."""
    decoder_dim: int = 256
    """Channels of the decoder; a multiple of 64 for fpn."""
    dice: float = 1.0
    """Weight of the Dice loss beside the cross-entropy."""
    class_weights: Literal["balanced"] | None = None
    """Weight classes in the cross-entropy by the inverse of their number of training pixels; by default all
    pixels count alike."""
    crop: int
    """Side of the crops to train on, in pixels; larger images are tested in windows of this size."""
    scale: tuple[float, float] = (0.5, 2.0)
    """Smallest and largest factor by which an image is scaled before it is cropped."""
    flip: float = 0.5
    """Probability of mirroring left and right."""
    vertical_flip: float = 0.0
    """Probability of mirroring top and bottom."""
    color_jitter: float = 0.0
    """Strength of changes to brightness, contrast and saturation."""

    def check(self) -> None:
        """Refuses what cannot work, before anything is loaded.

        Raises:
            ValueError: if a value is out of its range or two values exclude each other.
        """
        super().check()
        self.require_counts("decoder_dim", "crop", "scene_size")
        self.require_fractions("flip", "vertical_flip")
        self.require_no_less_than_zero("dice", "color_jitter")
        self.require_range("scale")
        self.require_held_out("test")
        if self.in_chans not in (None, 1, 3):
            raise ValueError(f"in_chans is {self.in_chans}: give 1 (grey) or 3 (colour), or leave it out")
        if self.ignore_index is not None and not 0 <= self.ignore_index < 1 << 16:
            raise ValueError(f"ignore_index is {self.ignore_index}: give a value of 0..65535, or None")
        names = self.class_names
        if names is not None and len(set(names)) < max(2, len(names)):
            raise ValueError(f"class_names is {names}: give two or more, each once")

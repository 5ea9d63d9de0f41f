"""The choices of an object detection. Imports neither torch nor lightning."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from crosshead.tasks.recipe import Recipe

Source = Literal["folder", "fashion-scenes"]
Format = Literal["coco", "yolo", "cvat", "voc"]


@dataclass(frozen=True, kw_only=True)
class DetectRecipe(Recipe):
    """Training of a detector. Each field is a flag of `crosshead train`.

    Example:
        >>> DetectRecipe(data="folder", model="ivit_nano", epochs=1, anchor_sizes=(8, 16)).check()
        Traceback (most recent call last):
            ...
        ValueError: anchor_sizes is (8, 16): give five, one for each level of the pyramid
    """

    task: ClassVar[str] = "detect"
    gives: ClassVar[str] = "Boxes and masks of objects"

    data: Source
    """Images with annotations in --data-dir, or scenes made of Fashion-MNIST."""
    format: Format | None = None
    """Format of the annotations; by default what lies in the folder."""
    test: float = 0.2
    """Fraction of the images to test on, where the data set has no held-out split; always the same images."""
    train_split: str | None = None
    """Name of the split to train on, or its COCO json, where it is not the usual one."""
    val_split: str | None = None
    """Name of the split to validate on, likewise."""
    test_split: str | None = None
    """Name of the split to test on, likewise."""
    in_chans: int | None = None
    """1 for grey images or 3 for colour; by default as the files are."""
    skip_faulty: bool = False
    """Leave out faulty annotations in place of refusing the data set; the published COCO has some."""
    scenes: tuple[int, int] = (4000, 500)
    """How many scenes to make of Fashion-MNIST, to train and to test."""
    scene_size: int = 128
    """Side of those scenes in pixels."""

    detector: Literal["faster-rcnn", "mask-rcnn", "retinanet"] = "faster-rcnn"
    """The detector, of torchvision; mask-rcnn needs objects with masks."""
    pyramid_dim: int = 256
    """Channels of the feature pyramid."""
    min_size: int | None = None
    """What the short side of an image is scaled to, in pixels; by default that of the largest image."""
    max_size: int | None = None
    """What its long side must not exceed then, in pixels; by default that of the largest image."""
    anchor_sizes: tuple[int, ...] = (32, 64, 128, 256, 512)
    """Sides of the anchors on the five levels of the pyramid, in pixels of the scaled image."""
    rois: int = 512
    """Proposals of an image that the heads of a two-stage detector learn from."""
    max_detections: int = 100
    """Most detections in an image, in validation, evaluation and prediction."""

    crop: int | None = None
    """Side of random crops to train on, in pixels; by default whole images."""
    scale: tuple[float, float] = (1.0, 1.0)
    """Smallest and largest factor by which an image is scaled."""
    flip: float = 0.5
    """Probability of mirroring left and right."""
    vertical_flip: float = 0.0
    """Probability of mirroring top and bottom."""
    color_jitter: float = 0.0
    """Strength of changes to brightness, contrast and saturation."""

    @property
    def masks(self) -> bool:
        """Whether objects have masks."""
        return self.detector == "mask-rcnn"

    def check(self) -> None:
        """Refuses what cannot work, before anything is loaded.

        Raises:
            ValueError: if a value is out of its range or two values exclude each other.
        """
        super().check()
        self.require_counts(
            "pyramid_dim", "min_size", "max_size", "rois", "max_detections", "crop", "scene_size"
        )
        self.require_fractions("flip", "vertical_flip")
        self.require_held_out("test")
        self.require_no_less_than_zero("color_jitter")
        self.require_range("scale")
        if len(self.anchor_sizes) != 5:
            raise ValueError(
                f"anchor_sizes is {self.anchor_sizes}: give five, one for each level of the pyramid"
            )

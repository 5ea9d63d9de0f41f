"""The choices of an image classification. Imports neither torch nor lightning."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from crosshead.tasks.recipe import Recipe

Source = Literal["folder", "digits", "fashion-mnist", "cifar10", "imagenet1k"]


@dataclass(frozen=True, kw_only=True)
class ClassifyRecipe(Recipe):
    """Training of an image classifier. Each field is a flag of `crosshead train`.

    Example:
        >>> ClassifyRecipe(data="digits", model="ivit_nano", epochs=0).check()
        Traceback (most recent call last):
            ...
        ValueError: epochs is 0: give 1 or more
    """

    task: ClassVar[str] = "classify"
    gives: ClassVar[str] = "A class for each image"

    data: Source
    """A folder for each class in --data-dir, or a data set that is published."""
    test: float = 0.2
    """Fraction of each class to test on, where the data set has no held-out split; always the same images."""
    image_size: int | None = None
    """Side of the images in pixels; by default that of the data set."""
    crop_fraction: float = 1.0
    """Fraction of the resized short side that evaluation keeps."""

    swap_landmarks: tuple[int, ...] | None = None
    """Exchange the attention of a timm ViT for interactive attention with so many landmarks an axis."""
    dropout: float = 0.0
    """Dropout before the classifier, and wherever else the model drops."""

    smoothing: float = 0.0
    """Label smoothing."""
    binary_loss: bool = False
    """A sigmoid for each class in place of the softmax."""
    class_weights: Literal["balanced"] | None = None
    """Weight classes in the loss by the inverse of their number of training images; by default all images
    count alike."""

    crop: Literal["resized", "padded", "center"] = "resized"
    """Random part resized, whole image shifted, or as in evaluation."""
    crop_scale: tuple[float, float] = (0.08, 1.0)
    """Smallest and largest fraction of the area for --crop resized."""
    crop_padding: int = 4
    """Largest shift in pixels for --crop padded."""
    flip: float = 0.5
    """Probability of mirroring left and right."""
    rotation: float = 0.0
    """Largest rotation in degrees."""
    color_jitter: float = 0.0
    """Strength of changes to brightness, contrast and saturation."""
    rand_augment: str = ""
    """timm's RandAugment policy, such as rand-m9-mstd0.5-inc1."""
    erasing: float = 0.0
    """Probability of erasing a rectangle."""
    mixup: float = 0.0
    """Parameter of mixup's beta distribution; 0 for none."""
    cutmix: float = 0.0
    """Parameter of cutmix's beta distribution; 0 for none."""

    def check(self) -> None:
        """Refuses what cannot work, before anything is loaded.

        Raises:
            ValueError: if a value is out of its range or two values exclude each other.
        """
        super().check()
        self.require_counts("image_size")
        self.require_held_out("test")
        self.require_fractions("dropout", "smoothing", "flip", "erasing")
        self.require_no_less_than_zero("mixup", "cutmix", "crop_padding")
        if self.class_weights and self.binary_loss:
            raise ValueError(
                f"class_weights is {self.class_weights} with binary_loss: weights belong to the softmax, "
                "leave one out"
            )
        if self.rand_augment and not self.rand_augment.startswith("rand-"):
            raise ValueError(
                f"rand_augment is {self.rand_augment}: give a policy such as rand-m9-mstd0.5-inc1"
            )
        if (self.mixup or self.cutmix) and self.batch_size % 2:
            raise ValueError(
                f"batch_size is {self.batch_size}: mixup and cutmix pair images, give an even number"
            )

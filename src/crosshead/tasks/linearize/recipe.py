"""The choices of a linearization. Imports neither torch nor lightning."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal, Self

from crosshead.tasks.recipe import Recipe

LOCAL = "local-dir:"


def teacher_folder(model: str) -> Path | None:
    """The folder that a teacher's name means; None for a name of timm.

    Example:
        >>> teacher_folder("local-dir:teachers/a").as_posix(), teacher_folder("vit_tiny_patch16_224")
        ('teachers/a', None)
    """
    path = Path(model.removeprefix(LOCAL)).expanduser()
    return path if model.startswith(LOCAL) or "/" in model or path.is_dir() else None


@dataclass(frozen=True, kw_only=True)
class LinearizeRecipe(Recipe):
    """Turns a trained ViT into one of linear cost, without labels. Each field is a flag of `crosshead train`.

    Example:
        >>> LinearizeRecipe(model="vit_base_patch16_224", epochs=2, landmarks=(7, 7, 7)).check()
        Traceback (most recent call last):
            ...
        ValueError: landmarks are (7, 7, 7): give one number or two, above 0
    """

    task: ClassVar[str] = "linearize"
    gives: ClassVar[str] = "A trained ViT at linear cost"
    # It starts with its teacher's model, whatever it continues.
    keeps_model: ClassVar[bool] = True
    fewest_epochs: ClassVar[int] = 0

    data: Literal["images", "fashion-mnist", "cifar10"] = "images"
    """Any images, in folders as deep as you like, or a data set as it is published. Labels are not needed: an
    evaluation makes use of them where images lie in a folder for each class."""
    val: float = 0.1
    """Fraction of the training images to validate on, where there is no validation split."""
    test: float = 0.1
    """Fraction of the images to test on, where there is neither a validation nor a test split."""

    model: str
    """The teacher: a ViT that timm knows, with its weights (needs a network); a run of this program; or a
    folder of config.json and model.safetensors as timm writes it."""
    pretrained: bool = True
    """Start from the teacher's weights; nothing else makes sense."""

    landmarks: tuple[int, ...] = (7, 7)
    """Landmarks along each axis, one number for both or two."""
    mixing: Literal["none", "logits", "weights", "both"] = "both"
    """Where heads talk to each other: nowhere, before the softmax, after it, or both."""
    mixing_group_size: int | None = None
    """How many consecutive heads talk to each other; by default all."""
    local_kernel: int = 3
    """Width of the depth-wise convolution of the values beside the attention; 0 for none."""
    keep: tuple[int, ...] = ()
    """Layers that keep their softmax attention, counted from 0, or from -1 backwards."""

    epochs: int = 0
    """Epochs at the end, in which the whole net learns."""
    attention_epochs: int = 5
    """Epochs in which all attention learns at once, each layer by itself on what it gets in the teacher."""
    blockwise: bool = True
    """After these let each block learn for an epoch of its own, one after the other: on the tokens that come
    out of the blocks before it, to give the teacher's."""
    block_lr: float = 3e-4
    """Peak learning rate of a block; --lr is that of the epochs before these."""
    feature_lr: float = 1e-5
    """Peak learning rate of the --epochs."""
    trained: Literal["attention", "blocks"] = "blocks"
    """What changes: the attention that was replaced, or the blocks and the last norm. Patches and positions
    stay embedded as by the teacher, and a classifier stays as it is."""

    image_size: tuple[int, ...] = ()
    """Sides of the crops in pixels; by default the teacher's own, and at most 224. Batches take several sides
    in turn; of a larger one they have as many fewer crops as makes the same number of pixels."""
    test_sizes: tuple[int, ...] = ()
    """Sides at which an evaluation compares, by default those of the crops; of one side that and twice it."""
    crops: int = 4096
    """Crops an epoch."""
    kept_crops: int = 1024
    """Different crops that the blocks learn from, at most --crops: they are kept in memory, which takes 8
    bytes for each of their tokens and channels (1.2 GB for 1,024 crops of 224 pixels in a ViT-B/16)."""
    crop_scale: tuple[float, float] = (0.08, 1.0)
    """Smallest and largest fraction of an image's area that a crop takes."""
    flip: float = 0.5
    """Probability of mirroring left and right."""
    color_jitter: float = 0.3
    """Strength of changes to brightness, contrast and saturation."""

    def resolved(self) -> Self:
        """The same with absolute paths, that of a teacher's folder among them."""
        recipe = super().resolved()
        folder = teacher_folder(recipe.model)
        return recipe if folder is None else replace(recipe, model=str(folder.resolve()))

    def check(self) -> None:
        """Refuses what cannot work, before anything is loaded.

        Raises:
            ValueError: if a value is out of its range or two values exclude each other.
        """
        super().check()
        self.require_counts("crops", "kept_crops", "mixing_group_size")
        self.require_fractions("flip", "test")
        self.require_no_less_than_zero("color_jitter", "attention_epochs", "block_lr", "feature_lr")
        if self.lr == 0:
            raise ValueError("lr is 0: give more, a student has to learn")
        self.require_range("crop_scale")
        if not self.pretrained:
            raise ValueError("pretrained is False: a teacher without its weights has nothing to teach")
        if self.epochs == self.attention_epochs == 0 and not self.blockwise:
            raise ValueError(
                "epochs and attention_epochs are 0 and blockwise is False: a student has to learn, give more"
            )
        if self.blockwise and self.ema:
            raise ValueError(
                f"ema is {self.ema}: an average of weights lags behind blocks that learn one after another: "
                "give --ema 0 or --no-blockwise"
            )
        if self.test == 1:
            raise ValueError("test must leave something to train on; got 1: give less, such as 0.1")
        if len(self.landmarks) not in (1, 2) or min(self.landmarks) < 1:
            raise ValueError(f"landmarks are {self.landmarks}: give one number or two, above 0")
        for name in ("image_size", "test_sizes"):
            if min(given := getattr(self, name), default=1) < 1:
                raise ValueError(f"{name} is {given}: give 1 or more")
        if self.drop_path:
            raise ValueError(f"drop_path is {self.drop_path}: a teacher is not matched by chance, give 0")
        if (
            (self.attention_epochs or self.blockwise)
            and self.devices * self.nodes > 1
            and self.strategy in ("auto", "ddp")
        ):
            raise ValueError(
                f"strategy is {self.strategy} on {self.devices * self.nodes} devices: while layers learn by "
                "themselves not every weight has a gradient, give --strategy "
                "ddp_find_unused_parameters_true"
            )

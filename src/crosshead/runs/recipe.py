"""What a training is: every choice, by name, in one frozen value. Imports neither torch nor lightning."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Source = Literal["digits", "fashion-mnist", "cifar10", "folder", "imagenet1k"]


@dataclass(frozen=True, kw_only=True)
class ClassifyRecipe:
    """Training of an image classifier. Each field is a flag of `crosshead train`.

    Example:
        >>> ClassifyRecipe(data="digits", model="ivit_nano", epochs=0).check()
        Traceback (most recent call last):
            ...
        ValueError: epochs is 0: give 1 or more
    """

    data: Source
    """Where the images come from."""
    data_dir: Path | None = None
    """Folder of the data set; digits needs none."""
    download: bool = False
    """Fetch the data set into --data-dir first, where its publisher offers that."""
    image_size: int | None = None
    """Side of the images in pixels; by default that of the data set."""
    crop_share: float = 1.0
    """Share of the resized short side that evaluation keeps."""

    model: str
    """Any model name that timm knows; Crosshead's are listed by `crosshead models`."""
    model_args: dict[str, Any] = field(default_factory=dict)
    """Constructor arguments, as name=value; added to the recipe's, which only apply to the recipe's model."""
    pretrained: bool = False
    """Start from the weights that timm knows for this model (needs a network)."""
    swap_landmarks: tuple[int, ...] | None = None
    """Exchange the attention of a timm ViT for interactive attention with so many landmarks an axis."""
    drop_path: float = 0.0
    """Stochastic depth: probability of skipping a block, growing with depth up to this."""
    dropout: float = 0.0
    """Dropout before the classifier, and wherever else the model drops."""

    epochs: int
    """Passes over the training images."""
    batch_size: int = 64
    """Images a step on each device."""
    accumulate: int = 1
    """Steps whose gradients make one update."""
    optimizer: str = "adamw"
    """Any optimiser name that timm knows."""
    lr: float = 1e-3
    """Peak learning rate, as it is: not scaled by the batch size."""
    min_lr: float = 0.0
    """Learning rate where the cosine ends."""
    weight_decay: float = 0.05
    """Weight decay; biases, norms and what the model exempts are exempt."""
    warmup_epochs: int = 0
    """Epochs of linear warm-up, part of the epochs and at most half of them."""
    clip_grad: float | None = None
    """Largest norm of the gradient."""
    smoothing: float = 0.0
    """Label smoothing."""
    binary_loss: bool = False
    """A sigmoid for each class in place of the softmax."""
    ema: float = 0.0
    """Decay of the moving average of the weights, which is then tested and kept; 0 for none."""

    crop: Literal["resized", "padded", "center"] = "resized"
    """Random part resized, whole image shifted, or as in evaluation."""
    crop_scale: tuple[float, float] = (0.08, 1.0)
    """Smallest and largest share of the area for --crop resized."""
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

    seed: int = 0
    """Everything random follows from it."""
    accelerator: str = "auto"
    """cpu, cuda, mps or auto."""
    devices: int = 1
    """Devices on each machine."""
    nodes: int = 1
    """Machines (start the command on each by torchrun or SLURM)."""
    strategy: str = "auto"
    """Lightning's name for how devices share the work: auto, ddp, fsdp, ..."""
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "bf16-true", "64-true"] = "32-true"
    """Precision of the arithmetic."""
    compile: bool = False
    """Compile the model first."""
    channels_last: bool = False
    """Use the channels-last memory format."""
    workers: int = 0
    """Loader processes for each device; the result does not depend on it."""
    threads: int | None = None
    """Threads of PyTorch on the CPU; by default its own choice."""
    logger: Literal["tensorboard", "wandb"] = "tensorboard"
    """wandb logs to Weights & Biases as well; CSV and TensorBoard are always written."""

    def check(self) -> None:
        """Refuses what cannot work, before anything is loaded.

        Raises:
            ValueError: If a value is out of its range or two values exclude each other.
        """
        for name in ("epochs", "batch_size", "accumulate", "devices", "nodes", "image_size", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}: give 1 or more")
        for name in ("drop_path", "dropout", "smoothing", "ema", "flip", "erasing"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise ValueError(f"{name} is {value}: give a number between 0 and 1")
        for name in (
            "lr",
            "min_lr",
            "weight_decay",
            "warmup_epochs",
            "mixup",
            "cutmix",
            "workers",
            "crop_padding",
        ):
            if (value := getattr(self, name)) < 0:
                raise ValueError(f"{name} is {value}: give 0 or more")
        if self.rand_augment and not self.rand_augment.startswith("rand-"):
            raise ValueError(
                f"rand_augment is {self.rand_augment}: give a policy such as rand-m9-mstd0.5-inc1"
            )
        if (self.mixup or self.cutmix) and self.batch_size % 2:
            raise ValueError(
                f"batch_size is {self.batch_size}: mixup and cutmix pair images, give an even number"
            )
        if self.ema and "fsdp" in self.strategy:
            raise ValueError(
                f"ema={self.ema} with strategy={self.strategy}: weights that are sharded over devices cannot "
                "be averaged, give --ema 0 or --strategy ddp"
            )

"""What a training is: every choice, by name, in one frozen value. Imports neither torch nor lightning."""

from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any, ClassVar, Literal, Self


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What trainings of every task have in common. Each field is a flag of `crosshead train`."""

    task: ClassVar[str]
    """The task that it is a recipe of: classify, segment, detect, change or linearize."""
    gives: ClassVar[str] = ""
    """What its nets give: the heading of its recipes in `crosshead train`, by default the task's name."""
    keeps_model: ClassVar[bool] = False
    """Whether a training from the weights of another run keeps its own model rather than take the run's."""
    fewest_epochs: ClassVar[int] = 1
    """What `epochs` must at least be."""

    data: str
    """Where the images come from."""
    data_dir: Path | None = None
    """Folder of the data set; digits needs none."""
    download: bool = False
    """Fetch the data set into --data-dir first, where its publisher offers that."""

    val: float = 0.1
    """Fraction of each class of the training set to validate on, where the data set has no validation split
    of its own; 0 trains on everything, and no epoch is the best."""

    model: str
    """Any model name that timm knows; Crosshead's are listed by `crosshead models`."""
    model_args: dict[str, Any] = field(default_factory=dict)
    """Constructor arguments, as name=value; added to the recipe's, which only apply to the recipe's model."""
    pretrained: bool = False
    """Start from the weights that timm knows for this model (needs a network)."""
    drop_path: float = 0.0
    """Stochastic depth: probability of skipping a block, growing with depth up to this."""
    grad_checkpointing: bool = False
    """Compute activations again in the backward pass: less memory, more time."""

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
    ema: float = 0.0
    """Decay of the moving average of the weights, which is then validated and kept; 0 for none."""

    val_every: int = 1
    """Epochs from one validation to the next; the last epoch is always validated."""
    patience: int | None = None
    """Stop after so many validations in a row without a better score; by default never."""
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
    explain_every: int | None = None
    """Epochs from one time to the next that TensorBoard shows how heads talk, and how diverse they are; by
    default never."""

    def resolved(self) -> Self:
        """The same with absolute paths, so that the run can be gone on with from anywhere."""
        return self if self.data_dir is None else replace(self, data_dir=self.data_dir.expanduser().resolve())

    def check(self) -> None:
        """Refuses what cannot work, before anything is loaded.

        Raises:
            ValueError: if a value is out of its range or two values exclude each other.
        """
        if self.epochs < self.fewest_epochs:
            raise ValueError(f"epochs is {self.epochs}: give {self.fewest_epochs} or more")
        self.require_counts(
            "batch_size",
            "accumulate",
            "devices",
            "nodes",
            "threads",
            "val_every",
            "patience",
            "explain_every",
        )
        self.require_fractions("drop_path", "ema", "val")
        if self.val == 1:
            raise ValueError("val must leave something to train on; got 1: give less, such as 0.1")
        self.require_no_less_than_zero("lr", "min_lr", "weight_decay", "warmup_epochs", "workers")
        self.require_at_most(
            workers=256, threads=4096, devices=4096, nodes=65536, epochs=10**6, batch_size=10**7
        )
        if self.ema and "fsdp" in self.strategy:
            raise ValueError(
                f"ema={self.ema} with strategy={self.strategy}: weights that are sharded over devices cannot "
                "be averaged, give --ema 0 or --strategy ddp"
            )

    def require_counts(self, *names: str) -> None:
        """Refuses fields below 1; None, which means no choice, passes."""
        for name in names:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}: give 1 or more")

    def require_at_most(self, **bounds: int) -> None:
        """Refuses fields above their bound, which is beyond any machine; None passes."""
        for name, most in bounds.items():
            value = getattr(self, name)
            if value is not None and value > most:
                raise ValueError(f"{name} is {value}: give {most} or less")

    def require_fractions(self, *names: str) -> None:
        """Refuses fields outside 0 to 1."""
        for name in names:
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise ValueError(f"{name} is {value}: give a number between 0 and 1")

    def require_held_out(self, *names: str) -> None:
        """Refuses fractions to hold out that are nothing or everything."""
        for name in names:
            if not 0 < (value := getattr(self, name)) < 1:
                raise ValueError(f"{name} is {value}: give a fraction above 0 and below 1, such as 0.2")

    def require_no_less_than_zero(self, *names: str) -> None:
        """Refuses fields that are negative or not finite."""
        for name in names:
            if not 0 <= (value := getattr(self, name)) < inf:
                raise ValueError(f"{name} is {value}: give 0 or more")

    def require_range(self, *names: str) -> None:
        """Refuses pairs that are not two positive numbers, the smaller one first."""
        for name in names:
            low, high = getattr(self, name)
            if not 0 < low <= high < inf:
                raise ValueError(f"{name} is {low}, {high}: give two numbers above 0, the smaller one first")

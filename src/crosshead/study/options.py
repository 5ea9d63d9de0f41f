"""What a study is asked to do. Nothing here waits for torch: the command line reads it for its help."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import tyro

from crosshead.study.trial import Data, Shape

ImageData = Literal["digits", "fashion-mnist", "cifar10"]
AblationGroup = Literal[
    "mixing", "factor", "form", "layers", "start", "landmarks", "local", "pooling", "stages"
]
ABLATION_GROUPS: tuple[AblationGroup, ...] = get_args(AblationGroup)
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The model and the training that a data set gets unless flags say otherwise.

    Attributes:
        shape: sizes of the model.
        samples: training samples, repetitions counted.
        select_samples: the same where learning rates are chosen.
    """

    shape: Shape
    samples: int
    select_samples: int


BUDGETS: dict[Data, Budget] = {
    "digits": Budget(
        shape=Shape(image_size=8, patch_size=1, dim=48, depth=2, heads=8, mlp_ratio=2, landmarks=4),
        samples=12_000,
        select_samples=6_000,
    ),
    "fashion-mnist": Budget(
        shape=Shape(image_size=28, patch_size=2, dim=64, depth=2, heads=8, mlp_ratio=2, landmarks=7),
        samples=30_000,
        select_samples=12_000,
    ),
    "cifar10": Budget(
        shape=Shape(image_size=32, patch_size=2, dim=96, depth=4, heads=8, mlp_ratio=2, landmarks=8),
        samples=200_000,
        select_samples=60_000,
    ),
    "one-look-up": Budget(
        shape=Shape(image_size=24, patch_size=1, dim=64, depth=1, heads=16, mlp_ratio=2, landmarks=8),
        samples=256_000,
        select_samples=128_000,
    ),
    "twelve-look-ups": Budget(
        shape=Shape(image_size=24, patch_size=1, dim=64, depth=1, heads=16, mlp_ratio=2, landmarks=8),
        samples=256_000,
        select_samples=128_000,
    ),
}


@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """What all studies share."""

    data: ImageData = "fashion-mnist"
    """What to learn. Model and training are sized for it; the flags below change that."""
    data_dir: Path | None = None
    """Folder of the data set; digits and look-ups need none."""
    out: Path | None = None
    """Folder of the results; by default studies/STUDY-DATA. A study that was interrupted goes on there."""
    seeds: int = 3
    """Trainings of each mechanism, by the seeds 0, 1, 2, ..."""
    learning_rates: tuple[float, ...] = (1e-3, 2e-3, 4e-3)
    """Every mechanism is tried with each, and keeps the best on samples carved from the training set."""
    select_seeds: int = 1
    """Trainings with each rate, of which the mean decides."""
    samples: int | None = None
    """Training samples, repetitions counted."""
    select_samples: int | None = None
    """The same where learning rates are chosen."""
    image_size: int | None = None
    """Side of the images in pixels."""
    patch_size: int | None = None
    """Side of a patch in pixels."""
    dim: int | None = None
    """Channels."""
    depth: int | None = None
    """Blocks."""
    heads: int | None = None
    """Heads."""
    landmarks: int | None = None
    """Landmarks along each axis; also agents, and the projected length of Linformer."""
    batch_size: int = 16
    """Samples a step."""
    weight_decay: float = 0.05
    """Of AdamW; biases, norms and mixing matrices are exempt."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto is cuda where there is one."""
    precision: Precision | None = None
    """By default bf16-mixed on cuda and 32-true on the CPU."""
    jobs: int | None = None
    """Trainings at a time; by default as many as the free cores allow, and at most 4 on cuda."""
    threads: int = 1
    """Threads of each training; all together may not exceed the cores that this process may use."""
    plan: bool = False
    """Print what would be trained, and about how long it takes, and stop."""

    def budget(self) -> Budget:
        """The budget of the data set with the flags worked in.

        Raises:
            ValueError: if a number is too small, or sizes do not fit.
        """
        for name, value in vars(self).items():
            if (
                isinstance(value, int | float)
                and not isinstance(value, bool)
                and value < (name != "weight_decay")
            ):
                raise ValueError(f"{name} is {value}: give 1 or more")
        if not self.learning_rates or min(self.learning_rates) <= 0:
            raise ValueError(f"learning_rates are {self.learning_rates}: give at least one, above 0")
        preset = BUDGETS[self.data]
        names = ("image_size", "patch_size", "dim", "depth", "heads", "landmarks")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        shape = dataclasses.replace(preset.shape, **given)
        if shape.image_size % shape.patch_size:
            raise ValueError(
                f"image_size {shape.image_size} is no multiple of patch_size {shape.patch_size}: change one"
            )
        if shape.dim % (4 * shape.heads) and shape.dim % shape.heads + shape.dim % 4:
            raise ValueError(f"dim is {shape.dim}: give a multiple of 4 and of heads={shape.heads}")
        return Budget(
            shape=shape,
            samples=self.samples or preset.samples,
            select_samples=self.select_samples or preset.select_samples,
        )


@dataclass(frozen=True, kw_only=True)
class PrimaryOptions(StudyOptions):
    """The test that was fixed beforehand: does interaction help?

    The same ViT with mixing=both and with mixing=none, paired by seeds; the mean difference of test accuracy
    with its 95 % interval. docs/study.md holds the protocol, docs/results.md what came out.
    """

    seeds: int = 8


@dataclass(frozen=True, kw_only=True)
class RivalsOptions(StudyOptions):
    """Accuracy of every mechanism in one backbone at equal budget.

    Only the attention differs; parameters are matched by the width of the MLPs. A quick run:
    `crosshead study rivals --data digits --mechanisms softmax interactive`.
    """

    mechanisms: tuple[str, ...] = ()
    """Names, with options after a colon, as in interactive:mixing=none; by default all that
    `crosshead rivals` lists, and interactive attention as it is, without mixing, and with a local term."""


@dataclass(frozen=True, kw_only=True)
class AblationOptions(StudyOptions):
    """Interactive attention with one thing changed at a time.

    Where heads talk, on which factor, within groups, at low rank, through how many layers, from which start;
    landmarks from 4 to 196; local term; averaged and convolved landmarks; attention in the last one, two and
    three stages of an iViT. Feature diversity across heads is measured beside the accuracy.
    """

    groups: tuple[AblationGroup, ...] = ABLATION_GROUPS
    """Which changes to study."""


@dataclass(frozen=True, kw_only=True)
class HeadsOptions(StudyOptions):
    """Does interaction pay more, the more heads there are?

    The same ViT with more and more heads of fewer and fewer channels, with mixing=both and with mixing=none,
    paired by seeds: the slope of their difference over the logarithm of the heads, and the best number of
    heads of each. Where heads talk, the rate at which they learn to is chosen on held-out samples as well.
    """

    learning_rates: tuple[float, ...] = (2e-3, 4e-3)
    seeds: int = 8
    select_seeds: int = 2
    head_counts: tuple[int, ...] = (4, 8, 16, 32)
    """Numbers of heads; each must divide the channels."""


@dataclass(frozen=True, kw_only=True)
class ConjunctionsOptions(StudyOptions):
    """What interaction adds to small heads: items are looked up by several attributes at once.

    One attention layer, a query as a prefix token, 24 generated items of which twelve are near misses. Where
    a head has fewer channels than the attributes need, it cannot tell near misses from what is asked for.
    """

    data: Literal["one-look-up", "twelve-look-ups"] = "one-look-up"
    """One query by four attributes, or twelve queries by three each."""
    learning_rates: tuple[float, ...] = (3e-3, 1e-2, 3e-2)
    seeds: int = 8
    select_seeds: int = 2
    batch_size: int = 128
    head_counts: tuple[int, ...] = (4, 8, 16, 32)
    """Numbers of heads; each must divide the channels."""
    mechanisms: tuple[str, ...] = (
        "interactive:mixing=none",
        "interactive:mixing=logits",
        "interactive:mixing=weights",
        "interactive:mixing=both",
        "softmax",
        "talking-heads",
    )
    """Names, with options after a colon."""


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Draw the tables and pictures of a study again, from its CSVs alone."""

    folder: tyro.conf.Positional[Path]
    """Folder of a study: results.csv is read, and prices.csv where there is one."""

"""How good a trained classifier is: accuracy, calibration, and which classes it takes for which."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from crosshead.runs.confusion import draw_confusion
from crosshead.runs.engine import image_facts, make_trainer
from crosshead.runs.folder import RunError, RunFolder, write_json
from crosshead.runs.load import load_run
from crosshead.runs.sources import load_splits
from crosshead.tasks.augment import eval_transform
from crosshead.tasks.classify import Classifier
from crosshead.tasks.loading import ImageLoaders


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The figures of one evaluation; shares are between 0 and 1.

    Attributes:
        images: Number of test images.
        weights: Which weights: `last` or `best`.
        top1: Share of images whose class is ranked first.
        top5: Share of images whose class is among the first five; None with five classes or fewer.
        calibration_error: Expected calibration error over 15 bins of confidence.
        per_class: Share of each class's images that are recognised; None for a class without images.
        confusion: Counts: row the true class, column the class ranked first.
    """

    images: int
    weights: str
    top1: float
    top5: float | None
    calibration_error: float
    per_class: dict[str, float | None]
    confusion: list[list[int]]


def evaluate(
    run: RunFolder,
    *,
    data_dir: Path | None = None,
    best: bool = False,
    accelerator: str = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
) -> Evaluation:
    """Measures a run on its test images; writes evaluation.json and confusion.png into it.

    Args:
        run: The run.
        data_dir: Where the data are now, if elsewhere than in training.
        best: Take the epoch with the best test accuracy, in place of the last one. It was chosen by these
            same images, so its figures flatter.
        accelerator: cpu, cuda, mps or auto.
        batch_size: Images at a time, by default as in training.
        workers: Loader processes, by default as in training.

    Raises:
        RunError: If the run has no usable weights, or the data have other classes.
        DataError: If the data are not as they should be.
    """
    record, model = load_run(run, best=best)
    recipe = dataclasses.replace(
        record.recipe,
        data_dir=data_dir or record.recipe.data_dir,
        accelerator=accelerator,
        devices=1,
        nodes=1,
        strategy="auto",
        workers=record.recipe.workers if workers is None else workers,
    )
    splits, images = load_splits(recipe), record.images
    if image_facts(recipe, splits).classes != images.classes:
        raise RunError(
            f"the data have the classes {_listed(splits.classes)}, the run {_listed(images.classes)}: "
            "point --data-dir to data with the same classes"
        )
    module = Classifier(model, num_classes=len(images.classes), channels_last=recipe.channels_last)
    loaders = ImageLoaders(
        train=None,
        test=splits.test,
        train_transform=None,
        test_transform=eval_transform(
            image_size=images.image_size, mean=images.mean, std=images.std, crop_share=recipe.crop_share
        ),
        batch_size=batch_size or recipe.batch_size,
        workers=recipe.workers,
    )
    trainer = make_trainer(recipe, logger=False, enable_checkpointing=False, default_root_dir=run.path)
    trainer.test(module, datamodule=loaders, verbose=False)
    measured = module.test_metrics.compute()
    confusion = measured["confusion"].cpu()
    counts = confusion.sum(1).tolist()
    result = Evaluation(
        images=int(confusion.sum()),
        weights="best" if best else "last",
        top1=float(measured["top1"]),
        top5=float(measured["top5"]) if len(images.classes) > 5 else None,
        calibration_error=float(measured["calibration_error"]),
        per_class={
            name: share if count else None
            for name, share, count in zip(images.classes, measured["per_class"].tolist(), counts, strict=True)
        },
        confusion=confusion.tolist(),
    )
    write_json(run.evaluation, dataclasses.asdict(result))
    draw_confusion(run, result.confusion, images.classes)
    return result


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (f", ... ({len(names)} in all)" if len(names) > 5 else "")

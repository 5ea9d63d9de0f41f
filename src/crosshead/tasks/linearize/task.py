"""Linearizing a trained ViT, as the engine sees it."""

import copy
from collections.abc import Iterator, Sequence
from functools import partial
from operator import methodcaller
from typing import Any, ClassVar

from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset
from torchvision import transforms

from crosshead.tasks.classify.transforms import eval_transform, train_transform
from crosshead.tasks.images import channel_mode
from crosshead.tasks.interface import Interface, NetInput
from crosshead.tasks.linearize.cost import measure_cost
from crosshead.tasks.linearize.data import (
    UNLABELLED,
    LinearizeMeta,
    check_images,
    labels_of,
    load_images,
)
from crosshead.tasks.linearize.evaluation import LinearizeEvaluation, agreement_of, label_metrics
from crosshead.tasks.linearize.module import Linearizer
from crosshead.tasks.linearize.predict import LinearizeResult, draw_tokens, predict_tokens
from crosshead.tasks.linearize.recipe import LinearizeRecipe
from crosshead.tasks.linearize.teacher import (
    Teacher,
    build_student,
    find_teacher,
    require_finite,
    timm_config,
)
from crosshead.tasks.loading import AugmentedImages, ImageLoaders, epoch_order
from crosshead.tasks.module import Updates
from crosshead.tasks.seeding import seed_from
from crosshead.tasks.sources import Input
from crosshead.tasks.spread import spread
from crosshead.tasks.task import Data, Example, Picture, Task
from crosshead.vision.on_grid import GridViT

# Images to validate on, test images that are compared at other sizes than that of the training, and labelled
# images for a probe; of more a part is taken.
VALIDATED, AT_OTHER_SIZES, BANK = 256, 64, 20_000


class Linearization(Task[LinearizeRecipe, LinearizeMeta]):
    """A ViT of linear cost that gives the tokens of one with softmax attention."""

    recipe = LinearizeRecipe
    meta = LinearizeMeta
    options: ClassVar[frozenset[str]] = frozenset({"size"})

    def data(self, recipe: LinearizeRecipe) -> Data[LinearizeMeta]:
        """Images."""
        return load_images(recipe)

    def check_data(self, recipe: LinearizeRecipe) -> Iterator[str]:
        """Every image that cannot be read."""
        return check_images(recipe)

    def build(self, recipe: LinearizeRecipe, meta: LinearizeMeta) -> nn.Module:
        """The student, with its teacher's weights unless the recipe says otherwise."""
        if recipe.pretrained:
            vit = find_teacher(recipe).build(pretrained=True)
        else:
            # Weights come from a run, and the teacher may be elsewhere by now.
            vit = Teacher(
                name=meta.architecture, architecture=meta.architecture, arguments=meta.arguments
            ).build(pretrained=False)
        return build_student(recipe, vit).requires_grad_(True).train()

    def module(
        self, recipe: LinearizeRecipe, meta: LinearizeMeta, model: nn.Module, updates: Updates
    ) -> Linearizer:
        """The student beside its teacher."""
        assert isinstance(model, GridViT)
        teacher = find_teacher(recipe).build(pretrained=True)
        require_finite(teacher, meta.image_size)
        return Linearizer(
            model,
            teacher=teacher,
            epochs=(recipe.attention_epochs, recipe.epochs),
            blockwise=recipe.blockwise,
            block_learning_rate=recipe.block_lr,
            feature_learning_rate=recipe.feature_lr,
            trained=recipe.trained,
            swapped=lambda: build_student(recipe, copy.deepcopy(teacher)),
            measure=partial(
                measure_cost, timm_arguments(recipe, meta), sizes(recipe, meta), in_chans=meta.in_chans
            ),
            crop_sizes=recipe.image_size,
            test_sizes=sizes(recipe, meta),
            # The engine's are at most half of the last stage's epochs.
            **{**updates, "warmup_epochs": recipe.warmup_epochs},
        )

    def loaders(
        self, recipe: LinearizeRecipe, data: Data[LinearizeMeta], meta: LinearizeMeta
    ) -> ImageLoaders:
        """Random crops to learn from; the whole of an image, more or less, to measure on."""
        return LinearizeLoaders(recipe, data, meta)

    def config(self, recipe: LinearizeRecipe, meta: LinearizeMeta, model: nn.Module) -> dict[str, Any]:
        """What `timm.create_model("local-dir:RUN/model", pretrained=True)` reads."""
        assert isinstance(model, GridViT)
        own, of_the_data = timm_config(model), ("model_name", "num_classes", "in_chans")
        (_, student) = timm_arguments(recipe, meta).values()
        return {
            "architecture": "linearized_vit",
            "num_classes": model.num_classes,
            "num_features": model.num_features,
            **({"label_names": list(meta.labels)} if meta.labels else {}),
            "model_args": {name: value for name, value in student.items() if name not in of_the_data},
            "pretrained_cfg": {
                **{key: own[key] for key in ("first_conv", "classifier", "interpolation") if own.get(key)},
                "input_size": [meta.in_chans, meta.image_size, meta.image_size],
                "fixed_input_size": False,
                "num_classes": model.num_classes,
                "mean": list(meta.mean),
                "std": list(meta.std),
                "crop_pct": meta.crop_fraction,
            },
        }

    def evaluation(
        self, module: Linearizer, meta: LinearizeMeta, *, images: int, weights: str
    ) -> LinearizeEvaluation:
        """Agreement, what is in the features, and the cost."""
        return LinearizeEvaluation(
            images=images,
            weights=weights,
            agreement=agreement_of(module.found),
            labels=label_metrics(module.found),
            cost={str(size): costs for size, costs in module.found.cost.items()},
        )

    def draw(
        self,
        title: str,
        recipe: LinearizeRecipe,
        data: Data[LinearizeMeta],
        meta: LinearizeMeta,
        module: Linearizer,
    ) -> list[Picture]:
        """The tokens of a few test images."""
        return [Picture("tokens", draw_tokens(title, meta, module.nets, data.test))]

    def predict(
        self,
        recipe: LinearizeRecipe,
        meta: LinearizeMeta,
        net: Any,
        inputs: Sequence[Input],
        *,
        size: int | None = None,
    ) -> list[LinearizeResult]:
        """The tokens of each image."""
        return [predict_tokens(recipe, meta, net, each, size=size) for each in inputs]

    def examples(self, meta: LinearizeMeta, images: Any, *, split: str) -> Iterator[Example]:
        """A few images, none of them twice."""
        return super().examples(meta, once(images), split=split)

    def preview(
        self,
        recipe: LinearizeRecipe,
        meta: LinearizeMeta,
        module: Linearizer,
        net: Any,
        inputs: Sequence[Input],
    ) -> list[LinearizeResult]:
        """The tokens of each image, beside those of the teacher that is at work."""
        return [predict_tokens(recipe, meta, net, each, teacher=module.teacher) for each in inputs]

    def interface(self, recipe: LinearizeRecipe, meta: LinearizeMeta, net: Any) -> Interface:
        """Normalised tokens."""
        return Interface(
            inputs=(NetInput.of_images(meta),),
            output="tokens",
            axes=("batch", "token", "channel"),
            method="forward_features",
            trained=(meta.image_size, meta.image_size),
            prefix_tokens=net.num_prefix_tokens,
        )


class LinearizeLoaders(ImageLoaders):
    """Loaders of images whose tokens are learned; a test also looks at other sizes, and at labelled images.

    While blocks learn one after the other, a training loader gives numbers of batches that the module keeps.

    Args:
        recipe: how crops are taken.
        data: the three splits.
        meta: how images are prepared.
    """

    def __init__(self, recipe: LinearizeRecipe, data: Data[LinearizeMeta], meta: LinearizeMeta) -> None:
        look: dict[str, Any] = {"mean": meta.mean, "std": meta.std}
        # timm's own loaders bring grey images and colour ones to the channels of a model in the same way.
        to_channels = methodcaller("convert", channel_mode(meta.in_chans))

        def plain(size: int) -> transforms.Compose:
            whole = eval_transform(image_size=size, crop_fraction=meta.crop_fraction, **look)
            return transforms.Compose([to_channels, whole])

        crop = train_transform(
            # Each batch is made as small as it is to be by the module.
            image_size=max(recipe.image_size, default=meta.image_size),
            crop_scale=recipe.crop_scale,
            flip=recipe.flip,
            color_jitter=recipe.color_jitter,
            **look,
        )
        val: Any = data.val
        super().__init__(
            train=data.train,
            val=None if val is None else Subset(val, spread(len(val), most=VALIDATED)),
            test=data.test,
            train_transform=transforms.Compose([to_channels, crop]),
            eval_transform=plain(meta.image_size),
            batch_size=recipe.batch_size,
            workers=recipe.workers,
            seed=recipe.seed,
        )
        self.crops, self.kept_crops = recipe.crops, recipe.kept_crops
        test: Any = data.test
        few = Subset(test, spread(len(test), most=AT_OTHER_SIZES))
        self.further: list[Dataset] = [AugmentedImages(few, plain(size)) for size in sizes(recipe, meta)[1:]]
        known = once(data.train)
        if not any((labels_of(part) == UNLABELLED).any() for part in (known, test)):
            bank = Subset(known, spread(len(known), most=BANK))
            self.further.append(AugmentedImages(bank, plain(meta.image_size)))

    def train_dataloader(self) -> DataLoader:
        """The loader of the epoch that the trainer is about to run."""
        trainer = self._attached_trainer()
        module: Any = trainer.lightning_module
        steps, epoch = self.steps_per_epoch(trainer.world_size), trainer.current_epoch
        if module.stage.kind != "block":
            return self._crops(epoch, steps)
        kept = self._kept_batches(trainer.world_size)
        numbers = [
            number
            for turn in range(-(-steps // kept))
            for number in epoch_order(kept, seed=seed_from(self.seed, epoch), epoch=turn)
        ]
        crops: Any = range(kept * self.batch_size)
        return self._loader(Subset(crops, numbers[:steps]), 1, drop_last=False)

    def crops_to_keep(self) -> DataLoader:
        """The crops that blocks learn from, in the batches in which they are kept."""
        return self._crops(0, self._kept_batches(self._attached_trainer().world_size))

    def steps_per_epoch(self, ranks: int) -> int:
        """Batches that each of so many processes trains on in an epoch."""
        return min(self.crops // ranks // self.batch_size, super().steps_per_epoch(ranks))

    def _kept_batches(self, ranks: int) -> int:
        return max(1, min(self.kept_crops // ranks // self.batch_size, self.steps_per_epoch(ranks)))

    def _crops(self, epoch: int, batches: int) -> DataLoader:
        items: Any = self.training_items()(epoch)
        trainer = self._attached_trainer()
        order = epoch_order(
            len(items), seed=self.seed, epoch=epoch, rank=trainer.global_rank, ranks=trainer.world_size
        )
        return self._loader(
            Subset(items, order[: batches * self.batch_size]), self.batch_size, drop_last=True
        )

    def test_dataloader(self) -> list[DataLoader]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The test images, some of them at each of the other sizes, and labelled training images."""
        return [super().test_dataloader(), *map(self._shared_out, self.further)]


def once(images: Any) -> Any:
    """The images without their repetitions, which make an epoch of a few."""
    return images.datasets[0] if isinstance(images, ConcatDataset) else images


def sizes(recipe: LinearizeRecipe, meta: LinearizeMeta) -> tuple[int, ...]:
    """The sides of test images, that of the training first."""
    others = recipe.test_sizes or recipe.image_size[1:] or (2 * meta.image_size,)
    return (meta.image_size, *(size for size in dict.fromkeys(others) if size != meta.image_size))


def timm_arguments(recipe: LinearizeRecipe, meta: LinearizeMeta) -> dict[str, dict[str, Any]]:
    """What `timm.create_model` takes to make a teacher and its student."""
    student = {
        "architecture": meta.architecture,
        "landmarks": list(recipe.landmarks) if len(recipe.landmarks) == 2 else recipe.landmarks[0],
        "mixing": recipe.mixing,
        "mixing_group_size": recipe.mixing_group_size,
        "local_kernel": recipe.local_kernel,
        "keep": list(recipe.keep),
    }
    return {
        "teacher": {"model_name": meta.architecture, **meta.arguments},
        "linearized": {"model_name": "linearized_vit", **meta.arguments, **student},
    }


TASK = Linearization()

"""The student beside its teacher: what it learns to give, and how well it does, as Lightning wants them.

Legend: `B` images, `N` tokens, `C` channels.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Unpack

import torch
from timm.models.vision_transformer import VisionTransformer
from timm.optim import create_optimizer_v2
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torchvision.transforms.v2.functional import InterpolationMode, resize

from crosshead.tasks.linearize.agreement import Agreement, agreement, relative_error
from crosshead.tasks.module import TaskModule, Updates
from crosshead.vision.on_grid import GridAttention, GridViT

# By side, net and quantity.
Costs = dict[int, dict[str, dict[str, float]]]


class Judged(NamedTuple):
    """What a net makes of a batch of labelled images.

    Attributes:
        features: (B, C), what its classifier reads.
        logits: (B, K), what its classifier says; the features again where it has none.
        labels: (B,).
    """

    features: Tensor
    logits: Tensor
    labels: Tensor


@dataclass
class Found:
    """What a test found, batch by batch, by the names of the nets.

    Attributes:
        agreement: with the teacher, by the side of the images.
        tested: of the test images.
        bank: of labelled training images; empty where labels are not known.
        cost: time and memory, by the side of the images.
    """

    agreement: dict[int, dict[str, list[Agreement]]] = field(default_factory=dict)
    tested: dict[str, list[Judged]] = field(default_factory=dict)
    bank: dict[str, list[Judged]] = field(default_factory=dict)
    cost: Costs = field(default_factory=dict)


class Linearizer(TaskModule):
    """Trains a ViT with interactive attention to give the tokens of the ViT that it was made of.

    For the first epochs each layer learns by itself: it is given what its attention gets in the teacher, and
    learns to give what comes out of it there. No gradient passes from layer to layer. After that the whole
    net learns to give the teacher's last tokens, normalised, and those after some blocks in between.

    It logs its columns after each epoch and `step_loss` in between. Losses are relative squared errors, in
    the first epochs those of the layers' outputs, on average; `val_loss` is always that of the last patch
    tokens.

    Args:
        model: the student.
        teacher: the net it was made of, with softmax attention; it is neither changed nor saved.
        attention_epochs: how many epochs the layers learn by themselves.
        feature_learning_rate: peak learning rate of the epochs after these.
        crop_sizes: sides of the images to learn from, in pixels, which steps take in turn; by default as they
            come.
        trained: what changes in the epochs after these: the replaced "attention", or all "blocks" and the
            last norm.
        swapped: makes the student as it was before it learned, for a test to compare with.
        measure: what the nets cost on a device, asked for after a test.
        test_sizes: sides of the images in the loaders of a test, in pixels; a loader after these holds
            labelled images to compare with.
        **updates: how the weights are updated: see `Updates`.

    Attributes:
        nets: what a test compares, by name.
        found: what it found.

    Source: the stages follow arXiv 2410.10254 (LoLCATs), which does so for language models.
    """

    columns = ("train_loss", "val_loss", "val_cosine", "val_centered_cosine")

    def __init__(
        self,
        model: GridViT,
        *,
        teacher: VisionTransformer,
        attention_epochs: int = 0,
        feature_learning_rate: float = 1e-5,
        crop_sizes: Sequence[int] = (),
        trained: Literal["attention", "blocks"] = "blocks",
        swapped: Callable[[], GridViT] | None = None,
        measure: Callable[[str], Costs] = lambda device: {},
        test_sizes: Sequence[int] = (),
        **updates: Unpack[Updates],
    ) -> None:
        super().__init__(model, **updates)
        # In a tuple it is no submodule: no checkpoint, average or optimiser sees it.
        self._teacher = (teacher.eval().requires_grad_(False),)
        self.attention_epochs, self.feature_learning_rate = attention_epochs, feature_learning_rate
        self.crop_sizes = tuple(crop_sizes)
        self.layers = [name for name, module in model.named_modules() if isinstance(module, GridAttention)]
        model.requires_grad_(False)
        for name in self.layers if trained == "attention" else ("blocks", "norm"):
            model.get_submodule(name).requires_grad_(True)
        self.swapped, self.measure, self.test_sizes = swapped, measure, tuple(test_sizes)
        self.nets: dict[str, VisionTransformer] = {}
        self.found = Found()

    @property
    def teacher(self) -> VisionTransformer:
        """The net that is to be matched, on the student's device."""
        return self._teacher[0].to(self.device)

    @property
    def learns_layers(self) -> bool:
        """Whether this epoch's layers learn by themselves."""
        return self.current_epoch < self.attention_epochs

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) images to (B, N, C) normalised tokens, class and register tokens first."""
        return self.model.forward_features(images.contiguous(memory_format=self.memory_format))

    def layer_errors(self, images: Tensor) -> Tensor:
        """The relative error of what each layer gives, on what it gets in the teacher, (layers,)."""
        with torch.no_grad(), tapped(self.teacher, self.layers) as taps:
            self.teacher.forward_features(images)
        carried = self.model.carried(*images.shape[-2:])
        errors = []
        for name, (given, wanted) in taps.items():
            layer: Any = self.model.get_submodule(name)
            errors.append(relative_error(layer(given, attn_mask=carried), wanted))
        return torch.stack(errors)

    def feature_loss(self, images: Tensor) -> Tensor:
        """The relative error of the last tokens, and the mean of that after blocks in between."""
        blocks = self.blocks_between()
        with torch.no_grad(), tapped(self.teacher, blocks) as wanted:
            last = self.teacher.forward_features(images)
        with tapped(self.model, blocks) as given:
            loss = relative_error(self(images), last)
        between = [relative_error(given[name][1], wanted[name][1]) for name in blocks]
        return loss + torch.stack(between).mean() if between else loss

    def blocks_between(self) -> list[str]:
        """Every third block, the last left out, whose tokens are the result."""
        return [f"blocks.{place}" for place in range(2, len(self.model.blocks) - 1, 3)]

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Loss of one batch of images, whose labels are not looked at."""
        images = self.of_size_in_turn(batch[0])
        loss = self.layer_errors(images).mean() if self.learns_layers else self.feature_loss(images)
        self.log("step_loss", loss)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(images))
        return {"loss": loss}

    def of_size_in_turn(self, images: Tensor) -> Tensor:
        """Images of the size that this step learns from: of a larger one fewer, so that all cost the same."""
        if not self.crop_sizes:
            return images
        size = self.crop_sizes[self.global_step % len(self.crop_sizes)]
        count = max(1, round(len(images) * (min(self.crop_sizes) / size) ** 2))
        return resize(images[:count], [size, size], InterpolationMode.BICUBIC, antialias=True)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """How well the last tokens of one batch agree with the teacher's."""
        images, _ = batch
        options: Any = {"on_step": False, "on_epoch": True, "sync_dist": True, "batch_size": len(images)}
        given, wanted = self.patch_tokens(self.model, images), self.patch_tokens(self.teacher, images)
        found = agreement(given, wanted)
        self.log("val_loss", relative_error(given, wanted), **options)
        self.log("val_cosine", found.cosine.mean(), **options)
        self.log("val_centered_cosine", found.centered.mean(), **options)

    def patch_tokens(self, net: VisionTransformer, images: Tensor) -> Tensor:
        """Normalised tokens of the patches alone, (B, N, C)."""
        return net.forward_features(images)[:, net.num_prefix_tokens :]

    def on_test_start(self) -> None:
        """Gathers the nets that are compared."""
        swapped = {} if self.swapped is None else {"swapped": self.swapped().to(self.device).eval()}
        self.nets, self.found = {"teacher": self.teacher, **swapped, "linearized": self.model}, Found()

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Compares the nets on one batch."""
        images, labels = batch
        tokens = {name: net.forward_features(images) for name, net in self.nets.items()}
        if dataloader_idx < len(self.test_sizes):
            patches = {name: each[:, self.model.num_prefix_tokens :] for name, each in tokens.items()}
            of_size = self.found.agreement.setdefault(self.test_sizes[dataloader_idx], {})
            for name, given in patches.items():
                of_size.setdefault(name, []).append(agreement(given, patches["teacher"]).cpu())
        if dataloader_idx in (0, len(self.test_sizes)):
            known = self.found.tested if dataloader_idx == 0 else self.found.bank
            for name, net in self.nets.items():
                pooled = net.forward_head(tokens[name], pre_logits=True)
                known.setdefault(name, []).append(Judged(pooled.cpu(), net.head(pooled).cpu(), labels.cpu()))

    def on_test_end(self) -> None:
        """Measures what the nets cost."""
        self.found.cost = self.measure(self.device.type)

    def configure_optimizers(self) -> Any:
        """timm's optimiser; for each of the two kinds of epochs a warm-up and a cosine of its own."""
        optimizer = create_optimizer_v2(
            self.model, opt=self.optimizer, lr=self.learning_rate, weight_decay=self.weight_decay
        )
        per_epoch = int(self.trainer.estimated_stepping_batches) // (self.trainer.max_epochs or 1)
        scheduler = LambdaLR(optimizer, lambda step: self.rate_at(step / per_epoch) / self.learning_rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def rate_at(self, epoch: float) -> float:
        """The learning rate after so many epochs, of which the last may be unfinished."""
        epochs = self.trainer.max_epochs or 1
        first, last, peak = 0, self.attention_epochs, self.learning_rate
        # The scheduler asks once more after the last step.
        if last <= epoch and last < epochs:
            first, last, peak = last, epochs, self.feature_learning_rate
        warm_up = min(self.warmup_epochs, (last - first) / 2)
        done = epoch - first
        if done < warm_up:
            return peak * done / warm_up
        cosine = 0.5 + 0.5 * math.cos(math.pi * min(1.0, (done - warm_up) / (last - first - warm_up)))
        return self.min_learning_rate + (peak - self.min_learning_rate) * cosine

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Torch's scheduler counts its own steps."""
        scheduler.step()


@contextmanager
def tapped(net: nn.Module, names: Sequence[str]) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
    """What passes through modules of a net: from the name of each to its first input and its output."""
    passed: dict[str, tuple[Tensor, Tensor]] = {}

    def keep(name: str) -> Any:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            passed[name] = (inputs[0], output)

        return hook

    hooks = [net.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    try:
        yield passed
    finally:
        for hook in hooks:
            hook.remove()

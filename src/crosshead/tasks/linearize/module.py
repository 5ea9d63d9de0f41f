"""The student beside its teacher: what it learns to give, and how well it does, as Lightning wants them.

Legend: `B` images, `N` tokens, `C` channels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Unpack

import torch
from timm.layers import Attention
from timm.models.vision_transformer import VisionTransformer
from timm.optim import create_optimizer_v2
from torch import Tensor
from torchvision.transforms.v2.functional import InterpolationMode, resize

from crosshead.tasks.linearize.agreement import Agreement, agreement, relative_error
from crosshead.tasks.linearize.stages import Kind, Stage, plan
from crosshead.tasks.linearize.streams import Streams, tapped
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

    Three stages follow each other, and each may be left out.

    - Attention: all layers learn at once, each by itself. It is given what its attention gets in the teacher,
      and learns to give what comes out of it there.
    - Blocks: they learn one after the other, an epoch each. A block is given the tokens that come out of
      those before it, which have learned already, and its attention learns to make of them what the teacher's
      tokens are at the same place: to add its own part, and what those before it lack. At the end of its
      epoch the last linear map of its attention and then that of its MLP are set to where the error is least,
      in closed form: `Streams.refit`.
    - Features: the whole net learns to give the teacher's last tokens, normalised, and those after some
      blocks in between.

    It logs its columns after each epoch and `step_loss` in between. Losses are relative squared errors: of
    layers on average, of a block to what it has to add to its tokens; `val_loss` is always that of the last
    patch tokens.

    Args:
        model: the student.
        teacher: the net it was made of, with softmax attention; it is neither changed nor saved.
        epochs: for the stages of attention and of features.
        blockwise: whether there is the stage of blocks.
        block_learning_rate: peak learning rate of that stage; `learning_rate` is that of the first one.
        feature_learning_rate: peak learning rate of the last stage.
        crop_sizes: sides of the images to learn from, in pixels, which steps take in turn; by default as they
            come.
        trained: what changes: the replaced "attention" alone, or the "blocks" and the last norm.
        swapped: makes the student as it was before it learned, for a test to compare with.
        measure: what the nets cost on a device, asked for after a test.
        test_sizes: sides of the images in the loaders of a test, in pixels; a loader after these holds
            labelled images to compare with.
        **updates: how the weights are updated: see `Updates`.

    Attributes:
        nets: what a test compares, by name.
        found: what it found.
        stages: those that there are, in order.

    Source: stages of attention and of the whole follow arXiv 2410.10254 (LoLCATs), which has them for
    language models; blocks one after the other, on what those before them give, arXiv 2102.05426 (BRECQ),
    which rounds weights so.
    """

    columns = ("train_loss", "val_loss", "val_cosine", "val_centered_cosine")
    items = "crops"

    def __init__(
        self,
        model: GridViT,
        *,
        teacher: VisionTransformer,
        epochs: tuple[int, int] = (0, 0),
        blockwise: bool = False,
        block_learning_rate: float = 3e-4,
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
        self.trained, self.crop_sizes = trained, tuple(crop_sizes)
        self.layers = [name for name, module in model.named_modules() if isinstance(module, GridAttention)]
        places = range(len(model.blocks)) if trained == "blocks" else map(_place, self.layers)
        learned = list(dict.fromkeys(places)) if blockwise else []
        rates = (self.learning_rate, block_learning_rate, feature_learning_rate)
        self.stages = plan(epochs, learned, rates)
        self.epochs_before = epochs[0] + len(learned)
        if learned:
            self.plan = (
                f"epochs: {epochs[0]} all attention, {len(learned)} one block each, {epochs[1]} the whole net"
            )
        self.streams: Streams | None = None
        self.let_learn("features")
        self.swapped, self.measure, self.test_sizes = swapped, measure, tuple(test_sizes)
        self.nets: dict[str, VisionTransformer] = {}
        self.found = Found()

    @property
    def teacher(self) -> VisionTransformer:
        """The net that is to be matched, on the student's device."""
        return self._teacher[0].to(self.device)

    @property
    def stage(self) -> Stage:
        """That of this epoch."""
        return self.stage_at(self.current_epoch)

    def stage_at(self, epoch: float) -> Stage:
        """That after so many epochs, of which the last may be unfinished."""
        return [stage for stage in self.stages if stage.first <= epoch][-1]

    def kind_of_epoch(self, epoch: int) -> str:
        """The kind of its stage: attention, blocks or features."""
        kind = self.stage_at(epoch).kind
        return "blocks" if kind == "block" else kind

    def let_learn(self, kind: Kind, block: int | None = None) -> None:
        """Frees the weights that learn in a stage."""
        self.model.requires_grad_(False)
        for name, module in self.model.named_modules():
            softmax = isinstance(module, Attention) and self.trained == "blocks"
            if (
                (kind == "features" and self.trained == "blocks" and name in ("blocks", "norm"))
                or (kind != "block" and name in self.layers)
                or (
                    kind == "block"
                    and name.startswith(f"blocks.{block}.")
                    and (name in self.layers or softmax)
                )
            ):
                module.requires_grad_(True)

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

    def on_train_epoch_start(self) -> None:
        """Frees what learns in this epoch, and makes ready what a block learns from."""
        kind, first, _, _, block = self.stage
        self.let_learn(kind, block)
        if self.current_epoch == first:
            # What an optimiser remembers of another error says nothing of this one.
            self.trainer.optimizers[0].state.clear()
        if block is None:
            self.streams = None
            return
        with self._precision():
            if self.streams is None:
                loader: Any = self.trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
                batches = (
                    self.of_size_in_turn(images, turn)
                    for turn, (images, _) in enumerate(loader.crops_to_keep())
                )
                self.streams = Streams(self.teacher, self.model, batches, device=self.device)
            while self.streams.block < block:
                self.streams.advance()

    def _precision(self) -> Any:
        return self.trainer.precision_plugin.forward_context()

    def block_loss(self, place: int) -> Tensor:
        """The squared error of the part that learns, relative to what it has to add to its tokens."""
        assert self.streams is not None
        lacking, due = self.streams.errors(place)
        return lacking.square().sum() / due.square().sum().clamp(min=torch.finfo(torch.float32).tiny)

    def finish_block(self) -> None:
        """Refits the linear maps that the parts of a block end in, and goes on to the next."""
        streams = self.streams
        assert streams is not None
        block = streams.block
        replaced = {self.model.get_submodule(name) for name in self.layers}
        with self._precision():
            while streams.block == block:
                attention = getattr(self.model.blocks[block], "attn", None) if streams.part == 0 else None
                if self.trained == "blocks" or attention in replaced:
                    streams.refit(self._total)
                streams.advance()

    def _total(self, tensor: Tensor) -> Tensor:
        if self.trainer.world_size == 1:
            return tensor
        total: Any = self.trainer.strategy.reduce(tensor.to(self.device), reduce_op="sum")
        return total.cpu()

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        """An update; after the last one of a block's epoch the block is finished."""
        super().optimizer_step(*arguments, **options)
        if self.stage.kind == "block" and self.trainer.is_last_batch:
            self.finish_block()

    def feature_loss(self, images: Tensor) -> Tensor:
        """The relative error of the last tokens, and the mean of that after blocks in between.

        That of patches and that of class and register tokens count alike: a classifier reads a token that is
        one among hundreds.
        """
        blocks = self.blocks_between()
        with torch.no_grad(), tapped(self.teacher, blocks) as wanted:
            last = self.teacher.forward_features(images)
        with tapped(self.model, blocks) as given:
            loss = self.error_by_kind(self(images), last)
        between = [self.error_by_kind(given[name][1], wanted[name][1]) for name in blocks]
        return loss + torch.stack(between).mean() if between else loss

    def error_by_kind(self, given: Tensor, wanted: Tensor) -> Tensor:
        """The mean of the relative errors of prefix and patch tokens, (B, N, C)."""
        kinds = [slice(self.model.num_prefix_tokens, None), slice(self.model.num_prefix_tokens)]
        kinds = kinds if self.model.num_prefix_tokens else kinds[:1]
        return torch.stack([relative_error(given[:, kind], wanted[:, kind]) for kind in kinds]).mean()

    def blocks_between(self) -> list[str]:
        """Every third block, the last left out, whose tokens are the result."""
        return [f"blocks.{place}" for place in range(2, len(self.model.blocks) - 1, 3)]

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Sets the learning rate."""
        epoch = self.current_epoch + batch_idx / int(self.trainer.num_training_batches)
        rate = self.stage.rate(epoch, warm_up=self.warmup_epochs, lowest=self.min_learning_rate)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """Loss of one batch: of images, whose labels are not looked at, or of the number of a kept batch."""
        if self.stage.kind == "block":
            loss = self.block_loss(int(batch))
        else:
            images = self.of_size_in_turn(batch[0], self.global_step)
            features = self.stage.kind == "features"
            loss = self.feature_loss(images) if features else self.layer_errors(images).mean()
        self.log("step_loss", loss)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=1)
        return {"loss": loss}

    def of_size_in_turn(self, images: Tensor, turn: int) -> Tensor:
        """Images of the size whose turn it is: of a larger one fewer, so that all cost the same."""
        if not self.crop_sizes:
            return images
        size = self.crop_sizes[turn % len(self.crop_sizes)]
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
        """timm's optimiser; the rate is set step by step."""
        return create_optimizer_v2(
            self.model, opt=self.optimizer, lr=self.learning_rate, weight_decay=self.weight_decay
        )


def _place(layer: str) -> int:
    """The block that a layer is in, by its name.

    Example:
        >>> _place("blocks.10.attn")
        10
    """
    return int(layer.split(".")[1])

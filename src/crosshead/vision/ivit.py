"""iViT: a hierarchical backbone, convolutional in its early stages and interactive in its deeper ones."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from timm.layers import ClassifierHead, get_act_layer, get_norm_layer
from timm.models import checkpoint_seq
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from crosshead.attention.functional import Implementation
from crosshead.attention.mixing import Mixing
from crosshead.vision.blocks import AttentionBlock, ConvBlock, Downsample, Layer, Stem, over_channels

STAGES = 4


class Stage(nn.Module):
    """Blocks at one resolution, after the step down to it: `(B, C, X, Y)` to `(B, C', X', Y')`.

    Args:
        downsample: the step down, or `nn.Identity()`.
        blocks: modules that keep the shape.
    """

    def __init__(self, downsample: nn.Module, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.downsample = downsample
        self.blocks = nn.Sequential(*blocks)
        self.grad_checkpointing = False

    def forward(self, x: Tensor) -> Tensor:
        """The map at this stage's resolution."""
        x = self.downsample(x)
        # torch 2.11 does not say what a checkpoint returns.
        output: Any = checkpoint_seq(self.blocks, x) if self.grad_checkpointing else self.blocks(x)
        return output


class IViT(nn.Module):
    """Hierarchical vision backbone around interactive attention, with timm's whole contract.

    Four stages at strides 4, 8, 16, 32. Images have any size from one pixel on: maps are rounded up
    at every step, and no parameter or buffer depends on the size. "Per stage" below means one value
    for all stages or a sequence of four; entries that a stage has no use for are ignored.

    Args:
        in_chans: channels of the image.
        num_classes: outputs of the classifier; 0 for none.
        global_pool: "avg", "max", "avgmax", "catavgmax", or "" for none.
        output_stride: the largest stride of a stage: 32, 16, 8 or 4. Beyond it stages dilate instead
            of stepping down.
        depths: blocks of each stage.
        dims: channels of each stage.
        attention_stages: which stages attend, counted from 0; the others are convolutional.
        landmarks: cells per axis, per stage; an entry may be a pair, rows and columns.
        mixing: where heads interact: "none", "logits", "weights" or "both".
        mixing_group_size: how many consecutive heads talk to each other, a divisor of the heads of every
            stage that attends; None for all.
        head_dim: channels of a head, per stage; must divide the channels of an attention stage.
        mlp_ratio: hidden width of the MLPs over the channels, per stage.
        kernel_size: of the depth-wise convolutions, odd, per stage.
        stem_stride: 4; or 2 or 1 for small images, which shrinks the strides of all stages alike.
        qk_norm: whether queries and keys are normalised.
        init_values: first value of the layer scale, or None for none.
        drop_rate: dropout rate before the classifier.
        proj_drop_rate: dropout rate after the attention and inside the MLPs.
        drop_path_rate: stochastic depth rate of the last block; it grows linearly from the first.
        impl: implementation of the attention: "auto", "reference", "streamed" or "fused".
        norm_layer: timm's name of a norm over the last axis ("layernorm", "rmsnorm"), or its class.
        act_layer: timm's name of an activation, or its class.
        device: where the parameters live.
        dtype: their floating-point type.

    Raises:
        ValueError: lengths other than four, heads that do not divide a width, an even kernel,
            strides outside their ranges.

    Source: arXiv 2402.17507 names iViT and puts attention into its deeper stages; its table of
    widths and depths is not known to us, so these are ours: docs/backbone.md.

    Example:
        >>> model = IViT(num_classes=10, depths=(1, 1, 1, 1), dims=(16, 32, 48, 64))
        >>> model(torch.zeros(2, 3, 65, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        output_stride: int = 32,
        *,
        depths: Sequence[int] = (2, 2, 6, 2),
        dims: Sequence[int] = (64, 128, 256, 512),
        attention_stages: Sequence[int] = (2, 3),
        landmarks: int | Sequence[int | Sequence[int]] = (7, 7, 6, 3),
        mixing: Mixing = "both",
        mixing_group_size: int | None = None,
        head_dim: int | Sequence[int] = (16, 16, 16, 32),
        mlp_ratio: float | Sequence[float] = 4.0,
        kernel_size: int | Sequence[int] = (7, 7, 3, 3),
        stem_stride: int = 4,
        qk_norm: bool = False,
        init_values: float | None = None,
        drop_rate: float = 0.0,
        proj_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        impl: Implementation = "auto",
        norm_layer: str | Layer = "layernorm",
        act_layer: str | Layer = "gelu",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        depths, dims = _per_stage("depths", depths), _per_stage("dims", dims)
        landmarks, head_dim = _per_stage("landmarks", landmarks), _per_stage("head_dim", head_dim)
        mlp_ratio, kernel_size = _per_stage("mlp_ratio", mlp_ratio), _per_stage("kernel_size", kernel_size)
        _check_attention(attention_stages, dims, head_dim)
        _check_windows(kernel_size, output_stride)
        self.in_chans = in_chans
        self.num_classes = num_classes
        self.drop_rate = drop_rate
        self.num_features = self.head_hidden_size = dims[-1]
        norm: Any = get_norm_layer(norm_layer)
        act: Any = get_act_layer(act_layer)
        factory = {"norm_layer": norm, "device": device, "dtype": dtype}

        self.stem = Stem(in_chans, dims[0], stride=stem_stride, act_layer=act, **factory)
        rate_step = drop_path_rate / max(sum(depths) - 1, 1)
        stages, self.feature_info, reduction, dilation = [], [], stem_stride, 1
        for i in range(STAGES):
            downsample: nn.Module = nn.Identity()
            if i > 0:
                stride = 2 if reduction < output_stride else 1
                window = {"stride": stride, "dilation": dilation}
                downsample = Downsample(dims[i - 1], dims[i], **window, **factory)
                reduction, dilation = reduction * stride, dilation * 2 // stride
            options: dict[str, Any] = {
                "kernel_size": kernel_size[i],
                "dilation": dilation,
                "mlp_ratio": mlp_ratio[i],
                "init_values": init_values,
                "proj_drop": proj_drop_rate,
                "act_layer": act,
                **factory,
            }
            block = ConvBlock
            if i in attention_stages:
                block = AttentionBlock
                options |= {
                    "num_heads": dims[i] // head_dim[i],
                    "landmarks": landmarks[i],
                    "mixing": mixing,
                    "mixing_group_size": mixing_group_size,
                    "qk_norm": qk_norm,
                    "impl": impl,
                }
            rates = [rate_step * (sum(depths[:i]) + j) for j in range(depths[i])]
            stages.append(Stage(downsample, [block(dims[i], drop_path=rate, **options) for rate in rates]))
            self.feature_info.append({"num_chs": dims[i], "reduction": reduction, "module": f"stages.{i}"})
        self.stages = nn.Sequential(*stages)
        self.norm: nn.Module = norm(dims[-1], device=device, dtype=dtype)
        self.head = self._classifier(num_classes, global_pool)
        self.apply(_init_weights)

    def forward(self, x: Tensor) -> Tensor:
        """Logits `(B, num_classes)` of images `(B, in_chans, height, width)`."""
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """The normalised map of the last stage, `(B, C, ceil(height / 32), ceil(width / 32))`."""
        return over_channels(self.norm, self.stages(self.stem(x)))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pools a map and classifies it; `pre_logits` stops before the classifier."""
        return self.head(x, pre_logits=pre_logits)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """The maps of chosen stages, and the final features unless `intermediates_only`.

        Args:
            x: images `(B, in_chans, height, width)`.
            indices: stages to return; an integer for the last n, None for all.
            norm: whether the map of the last stage is normalised.
            stop_early: whether stages after the last chosen one are skipped; the final features are
                then those of the last stage that ran.
            output_fmt: "NCHW".
            intermediates_only: whether to leave out the final features.

        Returns:
            Maps `(B, C_i, X_i, Y_i)` in the order of the stages, alone or behind the final features.

        Raises:
            ValueError: another `output_fmt`.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt must be 'NCHW', the layout of every stage; got {output_fmt!r}")
        chosen, last_chosen = feature_take_indices(len(self.stages), indices)
        last = len(self.stages) - 1
        intermediates, i = [], 0
        x = self.stem(x)
        for i, stage in enumerate(list(self.stages)[: last_chosen + 1] if stop_early else self.stages):
            x = stage(x)
            if i in chosen:
                intermediates.append(over_channels(self.norm, x) if norm and i == last else x)
        if intermediates_only:
            return intermediates
        return over_channels(self.norm, x) if i == last else x, intermediates

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drops what `forward_intermediates(indices=indices)` can do without.

        Args:
            indices: stages to return; an integer for the last n.
            prune_norm: whether the final norm goes too.
            prune_head: whether the classifier goes too; it always does with the last stage.

        Returns:
            The stages that will be returned, counted from the first.
        """
        chosen, last = feature_take_indices(len(self.stages), indices)
        shortened = last + 1 < len(self.stages)
        self.stages = nn.Sequential(*list(self.stages)[: last + 1])
        if shortened or prune_norm:
            self.norm = nn.Identity()
        if shortened:
            self.num_features = self.head_hidden_size = self.feature_info[last]["num_chs"]
        if shortened or prune_head:
            self.reset_classifier(0, "")
        return chosen

    def get_classifier(self) -> nn.Module:
        """The last linear layer."""
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Puts a fresh classifier in place, with the same pooling unless another is named."""
        self.num_classes = num_classes
        pooling = self.head.global_pool.pool_type if global_pool is None else global_pool
        self.head = self._classifier(num_classes, pooling).train(self.training)
        self.head.apply(_init_weights)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Decides whether blocks recompute their activations in the backward pass."""
        for stage in self.stages.children():
            stage.grad_checkpointing = enable  # pyright: ignore[reportArgumentType]

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Patterns that sort parameters into layers, for learning rates by layer.

        Args:
            coarse: whether a layer is a stage, and not a block.
        """
        fine = [
            (r"^stages\.(\d+)\.downsample", (0,)),
            (r"^stages\.(\d+)\.blocks\.(\d+)", None),
            (r"^norm", (99999,)),
        ]
        coarser = [(r"^stages\.(\d+)", None), (r"^norm", (99999,))]
        return {"stem": r"^stem", "blocks": coarser if coarse else fine}

    def no_weight_decay(self) -> set[str]:
        """The head-mixing matrices: residuals that decay would pull back to no interaction."""
        return {name for name, _ in self.named_parameters() if "_mixing." in name}

    def _classifier(self, num_classes: int, global_pool: str) -> ClassifierHead:
        like = self.stem.conv1.weight
        place = {"device": like.device, "dtype": like.dtype}
        options = {"pool_type": global_pool, "drop_rate": self.drop_rate}
        return ClassifierHead(self.num_features, num_classes, **options, **place)


def _per_stage(name: str, value) -> tuple:
    if not isinstance(value, Sequence):
        return (value,) * STAGES
    if len(value) != STAGES:
        raise ValueError(f"{name} must be one value or {STAGES}, one for each stage; got {tuple(value)}")
    return tuple(value)


def _check_attention(
    attention_stages: Sequence[int], dims: tuple[int, ...], head_dim: tuple[int, ...]
) -> None:
    for i in attention_stages:
        if i not in range(STAGES):
            raise ValueError(f"attention_stages must lie in 0 to {STAGES - 1}; got {tuple(attention_stages)}")
        if dims[i] % head_dim[i]:
            raise ValueError(
                f"head_dim must divide dims where a stage attends; stage {i} has {head_dim[i]}, {dims[i]}: "
                f"{math.gcd(head_dim[i], dims[i])} would do"
            )


def _check_windows(kernel_size: tuple[int, ...], output_stride: int) -> None:
    if any(size % 2 == 0 for size in kernel_size):
        raise ValueError(f"kernel_size must be odd, or maps would change their size; got {kernel_size}")
    if output_stride not in (4, 8, 16, 32):
        raise ValueError(f"output_stride must be 32, 16, 8 or 4; got {output_stride}")


def _init_weights(module: nn.Module) -> None:
    if not isinstance(module, nn.Linear | nn.Conv2d):
        return
    if isinstance(module, nn.Conv2d) and module.kernel_size != (1, 1):
        fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
    else:
        nn.init.normal_(module.weight, std=0.02)
    if module.bias is not None:
        nn.init.zeros_(module.bias)

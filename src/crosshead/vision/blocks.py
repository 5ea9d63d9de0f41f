"""The pieces of iViT, all of them from `(B, C, X, Y)` to `(B, C, X, Y)`.

Legend: `B` batch, `X` and `Y` rows and columns of the token grid, `C` channels.

Channels lie innermost in memory throughout (torch's channels_last): convolutions are quickest so,
norms and linear layers see contiguous rows through a view, and no axis is ever moved by copying.
"""

from collections.abc import Sequence
from typing import NoReturn

import torch
from timm.layers import DropPath, LayerScale, LayerScale2d, Mlp
from torch import Tensor, nn

from crosshead.attention.functional import Implementation
from crosshead.attention.mixing import Mixing
from crosshead.attention.module import InteractiveAttention, refuse_torchscript
from crosshead.attention.plain import has_hooks_on_every_module, is_plain

Layer = type[nn.Module]


def over_channels(norm: nn.Module, x: Tensor) -> Tensor:
    """Applies a norm over the last axis to the channels of `(B, C, X, Y)`, through a view."""
    return norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Stem(nn.Module):
    """Two overlapping 3 x 3 convolutions that turn an image into tokens.

    The stride changes no parameter, so weights learned at one stride fit every other.

    Args:
        in_chans: channels of the image.
        dim: channels of the tokens.
        stride: pixels between neighbouring tokens: 4, 2 or 1.
        norm_layer: norm over the last axis.
        act_layer: activation between the convolutions.
        device: where the parameters live.
        dtype: their floating-point type.

    Raises:
        ValueError: another stride.

    Example:
        >>> Stem(3, 32, stride=4)(torch.zeros(1, 3, 33, 28)).shape
        torch.Size([1, 32, 9, 7])
    """

    def __init__(
        self,
        in_chans: int,
        dim: int,
        *,
        stride: int = 4,
        norm_layer: Layer = nn.LayerNorm,
        act_layer: Layer = nn.GELU,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if stride not in (1, 2, 4):
            raise ValueError(f"stem_stride must be 4, 2 or 1 pixels; got {stride}")
        factory = {"device": device, "dtype": dtype}
        first, second = min(stride, 2), max(stride // 2, 1)
        self.conv1 = nn.Conv2d(in_chans, dim // 2, 3, stride=first, padding=1, **factory)
        self.act = act_layer()
        self.conv2 = nn.Conv2d(dim // 2, dim, 3, stride=second, padding=1, **factory)
        self.norm = norm_layer(dim, **factory)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens `(B, C, ceil(height / stride), ceil(width / stride))` of images."""
        # A CPU runs these convolutions in half the time so, and copying an image costs little.
        # By way of permuted axes, since vmap knows no memory formats.
        x = x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
        x = self.conv2(self.act(self.conv1(x)))
        return over_channels(self.norm, x)

    def __prepare_scriptable__(self) -> NoReturn:
        refuse_torchscript(self)


class Downsample(nn.Module):
    """The step between two stages: norm and an overlapping 3 x 3 convolution that halves the map.

    Args:
        in_dim: channels of the stage before.
        out_dim: channels of the stage after.
        stride: 2, or 1 where a smaller output stride is wanted.
        dilation: of the convolution, where an earlier stage gave up its stride.
        norm_layer: norm over the last axis.
        device: where the parameters live.
        dtype: their floating-point type.

    Example:
        >>> Downsample(32, 64)(torch.zeros(1, 32, 9, 7)).shape
        torch.Size([1, 64, 5, 4])
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        stride: int = 2,
        dilation: int = 1,
        norm_layer: Layer = nn.LayerNorm,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        factory = {"device": device, "dtype": dtype}
        window = {"stride": stride, "padding": dilation, "dilation": dilation}
        self.norm = norm_layer(in_dim, **factory)
        self.conv = nn.Conv2d(in_dim, out_dim, 3, **window, **factory)

    def forward(self, x: Tensor) -> Tensor:
        """Odd sizes are rounded up."""
        return self.conv(over_channels(self.norm, x))


class ConvMlp(Mlp):
    """timm's MLP, of 1 x 1 convolutions; without gradients its GELU overwrites the hidden map.

    The values are the same to the bit. A hidden map is the largest of a block, and on a CPU fresh memory for
    a second one takes longer than the GELU itself.

    Example:
        >>> ConvMlp(8, 32, use_conv=True)(torch.zeros(1, 8, 5, 4)).shape
        torch.Size([1, 8, 5, 4])
    """

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, X, Y)` to the same shape."""
        if not self._may_overwrite(x):
            return super().forward(x)
        hidden = torch.ops.aten.gelu_(self.fc1(x))
        return self.drop2(self.fc2(self.norm(self.drop1(hidden))))

    def _may_overwrite(self, x: Tensor) -> bool:
        """Whether nobody else sees the hidden map: not a gradient, a tracer or a hook."""
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing():
            return False
        plain = (
            is_plain(self.fc1, nn.Conv2d) and is_plain(self.act, nn.GELU) and not has_hooks_on_every_module()
        )
        return type(x) is Tensor and plain and self.act.approximate == "none"


class ConvBlock(nn.Module):
    """Depth-wise convolution, norm and MLP on a residual branch: the block of the early stages.

    Source: the block of ConvNeXt (arXiv 2201.03545).

    Args:
        dim: `C`.
        kernel_size: of the depth-wise convolution, odd.
        dilation: of the depth-wise convolution.
        mlp_ratio: hidden width of the MLP over `C`.
        init_values: first value of the layer scale, or None for none.
        proj_drop: dropout rate inside the MLP.
        drop_path: stochastic depth rate.
        norm_layer: norm over the last axis.
        act_layer: activation of the MLP.
        device: where the parameters live.
        dtype: their floating-point type.

    Example:
        >>> ConvBlock(32, kernel_size=7)(torch.zeros(1, 32, 9, 7)).shape
        torch.Size([1, 32, 9, 7])
    """

    def __init__(
        self,
        dim: int,
        *,
        kernel_size: int = 3,
        dilation: int = 1,
        mlp_ratio: float = 4.0,
        init_values: float | None = None,
        proj_drop: float = 0.0,
        drop_path: float = 0.0,
        norm_layer: Layer = nn.LayerNorm,
        act_layer: Layer = nn.GELU,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        factory = {"device": device, "dtype": dtype}
        window = {"padding": kernel_size // 2 * dilation, "dilation": dilation}
        self.conv_dw = nn.Conv2d(dim, dim, kernel_size, groups=dim, **window, **factory)
        self.norm = norm_layer(dim, **factory)
        # 1 x 1 convolutions add their bias on the way; linear layers on a CPU write their output twice.
        hidden = int(dim * mlp_ratio)
        self.mlp = ConvMlp(dim, hidden, act_layer=act_layer, drop=proj_drop, use_conv=True, **factory)
        self.scale = LayerScale2d(dim, init_values=init_values, **factory) if init_values else nn.Identity()
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, X, Y)` to the same shape."""
        local = over_channels(self.norm, self.conv_dw(x))
        return x + self.drop_path(self.scale(self.mlp(local)))


class AttentionBlock(nn.Module):
    """Interactive attention over the whole grid, then a `ConvBlock`: the block of the deeper stages.

    Position comes from the depth-wise convolutions alone, so no parameter knows the image size.

    Args:
        dim: `C`.
        num_heads: heads of the attention; must divide `dim`.
        landmarks: cells per axis, one number or a pair.
        mixing: where heads interact: "none", "logits", "weights" or "both".
        mixing_group_size: how many consecutive heads talk to each other; None for all.
        qk_norm: whether queries and keys are normalised.
        impl: implementation of the attention.
        init_values: first value of the layer scale, or None for none.
        proj_drop: dropout rate after the attention and inside the MLP.
        drop_path: stochastic depth rate.
        norm_layer: norm over the last axis.
        device: where the parameters live.
        dtype: their floating-point type.
        **conv_options: of the `ConvBlock`.

    Example:
        >>> AttentionBlock(32, num_heads=2, landmarks=3)(torch.zeros(1, 32, 9, 7)).shape
        torch.Size([1, 32, 9, 7])
    """

    def __init__(
        self,
        dim: int,
        *,
        num_heads: int,
        landmarks: int | Sequence[int],
        mixing: Mixing = "both",
        mixing_group_size: int | None = None,
        qk_norm: bool = False,
        impl: Implementation = "auto",
        init_values: float | None = None,
        proj_drop: float = 0.0,
        drop_path: float = 0.0,
        norm_layer: Layer = nn.LayerNorm,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **conv_options,
    ) -> None:
        super().__init__()
        factory = {"device": device, "dtype": dtype}
        shared = {"proj_drop": proj_drop, "norm_layer": norm_layer, **factory}
        self.norm = norm_layer(dim, **factory)
        self.attn = InteractiveAttention(
            dim,
            num_heads,
            landmarks=landmarks,
            mixing=mixing,
            mixing_group_size=mixing_group_size,
            qk_norm=qk_norm,
            impl=impl,
            **shared,
        )
        self.scale = LayerScale(dim, init_values=init_values, **factory) if init_values else nn.Identity()
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()
        self.conv = ConvBlock(dim, init_values=init_values, drop_path=drop_path, **shared, **conv_options)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, X, Y)` to the same shape."""
        grid = x.shape[-2:]
        tokens = self.norm(x.flatten(2).transpose(1, 2))
        attended = self.scale(self.attn(tokens, grid=grid))
        return self.conv(x + self.drop_path(attended.transpose(1, 2).unflatten(2, grid)))

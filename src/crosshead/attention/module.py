"""The attention layer: projections, landmarks, and the operator between them.

Legend: `B` batch, `N` query tokens, `M` key tokens, `C` channels, `H` heads, `D = C / H`, `L` landmarks.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn

import torch
from torch import Tensor, nn

from crosshead.attention.functional import Implementation, check_implementation, interactive_attention
from crosshead.attention.grid import as_integer, axis_landmarks, zero_outside
from crosshead.attention.local import LocalTerm
from crosshead.attention.mixing import HeadMixer, Mixing
from crosshead.attention.pooling import resolve_pooling
from crosshead.attention.projection import linear, project, weights_tell_all

if TYPE_CHECKING:
    from crosshead.attention.sequence_parallel import Ranks

# To symbolic tracing these are single steps: they decide by what a tracer does not know, such as sizes.
torch.fx.wrap("_check_projected")
torch.fx.wrap("_context_or")
torch.fx.wrap("interactive_attention")
torch.fx.wrap("resolve_pooling")
torch.fx.wrap("zero_outside")


class InteractiveAttention(nn.Module):
    """Interactive multi-head attention, `(B, N, C)` to `(B, N, C)`, in time and memory linear in the tokens.

    Queries and keys are averaged over the cells of the token grid into landmarks; the attention map is the
    product of two small factors, and heads talk to each other on these. A fresh layer is plain factored
    attention: mixing and local term are residual and start at zero.

    Args:
        dim: channels `C`.
        num_heads: `H`, a divisor of `dim`.
        landmarks: cells along each axis of the grid: one number for every axis, or one for each axis. A grid
            with fewer tokens along an axis has as many cells as tokens.
        mixing: where heads talk: "none", "logits" (before the softmax), "weights" (after it) or "both".
        mixing_group_size: how many consecutive heads talk to each other, a divisor of `num_heads`; all by
            default. Mixing costs less in proportion.
        qkv_bias: whether the projections to queries, keys and values have a bias.
        qk_norm: normalise queries and keys over the head dim; landmarks then pool the normalised vectors.
        norm_layer: the normalisation for `qk_norm`.
        proj_bias: whether the last projection has a bias.
        attn_drop: always 0; any other value raises.
        proj_drop: dropout after the last projection.
        local_kernel: width of a depth-wise convolution of the values that is added to the output; 0 for none.
            It takes the axes of `landmarks`, two where that is one number.
        num_prefix_tokens: leading class and register tokens: landmarks of their own, never averaged.
        impl: "auto", "reference", "streamed" or "fused": see `interactive_attention`.
        device: where the parameters live.
        dtype: their floating-point type.

    Raises:
        ValueError: if sizes do not fit, or `mixing` or `impl` is unknown.
        TypeError: if a size is not an integer.
        NotImplementedError: if `attn_drop` is above 0.

    Source: arXiv 2402.17507; what it leaves open is chosen in docs/decisions.md.

    Example:
        >>> import torch
        >>> from crosshead import InteractiveAttention
        >>> layer = InteractiveAttention(96, 6, landmarks=(7, 7))
        >>> layer(torch.randn(2, 28 * 20, 96), grid=(28, 20)).shape
        torch.Size([2, 560, 96])
    """

    # Told after each call of the operator what it worked from and gave; empty, unless somebody looks inside.
    _observers: tuple[Callable[..., None], ...] = ()
    # Who shares the tokens, if anybody: see `crosshead.shard_tokens`.
    ranks: "Ranks | None" = None

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        landmarks: int | Sequence[int],
        mixing: Mixing = "both",
        mixing_group_size: int | None = None,
        qkv_bias: bool = True,
        qk_norm: bool = False,
        norm_layer: Callable[..., nn.Module] = nn.LayerNorm,
        proj_bias: bool = True,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        local_kernel: int = 0,
        num_prefix_tokens: int = 0,
        impl: Implementation = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if attn_drop:
            raise NotImplementedError(
                f"attn_drop must be 0; got {attn_drop}: dropout on the two factors is not dropout on their "
                "product. Use proj_drop or stochastic depth"
            )
        check_implementation(impl)
        dim, num_heads = as_integer("dim", dim), as_integer("num_heads", num_heads)
        num_prefix_tokens = as_integer("num_prefix_tokens", num_prefix_tokens)
        if dim < 1 or num_heads < 1 or dim % num_heads:
            raise ValueError(f"dim must be a positive multiple of num_heads; got {dim=} and {num_heads=}")
        if num_prefix_tokens < 0:
            raise ValueError(f"num_prefix_tokens must not be negative; got {num_prefix_tokens}")
        per_axis = axis_landmarks(landmarks)
        self.dim = dim
        self.num_heads = num_heads
        self.head_dim = dim // num_heads
        one_number = not isinstance(landmarks, Sequence)
        self.landmarks: int | tuple[int, ...] = per_axis[0] if one_number else per_axis
        self.mixing = mixing
        self.num_prefix_tokens = num_prefix_tokens
        self.impl: Implementation = impl
        placed = {"device": device, "dtype": dtype}
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias, **placed)
        self.q_norm = norm_layer(self.head_dim, **placed) if qk_norm else nn.Identity()
        self.k_norm = norm_layer(self.head_dim, **placed) if qk_norm else nn.Identity()
        groups = {"mixing": mixing, "group_size": mixing_group_size}
        self.query_mixing = HeadMixer(num_heads, **groups, **placed)
        self.key_mixing = HeadMixer(num_heads, **groups, **placed)
        axes = 2 if one_number else len(per_axis)
        self.local = (
            LocalTerm(dim, axes=axes, kernel_size=local_kernel, num_prefix_tokens=num_prefix_tokens, **placed)
            if local_kernel
            else None
        )
        self.proj = nn.Linear(dim, dim, bias=proj_bias, **placed)
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(
        self,
        x: Tensor,
        *,
        grid: Sequence[int] | None = None,
        key_mask: Tensor | None = None,
        context: Tensor | None = None,
        context_grid: Sequence[int] | None = None,
        context_mask: Tensor | None = None,
    ) -> Tensor:
        """Attends from `x` to itself, or to `context`.

        Masked tokens change no output and no gradient, whatever stands there, and their own outputs are zero.
        In a sequence (a grid of one axis) the landmarks follow the valid tokens, so that a padded sample
        gives what it gives alone; on grids of two and three axes landmarks are masked means over cells of the
        padded grid.

        Args:
            x: `(B, N, C)`, prefix tokens first, then the grid in row-major order.
            grid: its one to three axis lengths. May be left out where `landmarks` is a tuple of one number:
                the tokens are a sequence then.
            key_mask: bool `(B, N)`, True = takes part, of `x` (as queries and, without `context`, as keys).
            context: `(B, M, C)`, tokens to attend to, with as many prefix tokens as `x`.
            context_grid: their grid.
            context_mask: bool `(B, M)`, True = takes part. A cell that is empty on either side is no
                landmark, and where none is left the output is zero.

        Returns:
            `(B, N, C)`.

        Raises:
            ValueError: if shapes do not fit.
            TypeError: if tokens are not a floating-point tensor, a grid does not hold integers, or a mask is
                not bool.
            NotImplementedError: if there is a local term with `context`.
        """
        pooling = resolve_pooling(
            x,
            grid=grid,
            key_mask=key_mask,
            context=context,
            context_grid=context_grid,
            context_mask=context_mask,
            dim=self.dim,
            landmarks=self.landmarks,
            num_prefix_tokens=self.num_prefix_tokens,
            local=self.local is not None,
            impl=self.impl,
            ranks=self.ranks,
        )
        x = zero_outside(pooling.mask, x)
        if context is None:
            q, k, v = self._heads(self._project(x, 0, 3))
        else:
            context = zero_outside(pooling.context_mask, _context_or(x, context))
            (q,) = self._heads(self._project(x, 0, 1))
            k, v = self._heads(self._project(context, 1, 3))
        q, k = self.q_norm(q), self.k_norm(k)
        ql, kl = pooling.of(q, k)
        own_k, own_v, own_mask = pooling.own(k, v)
        out = interactive_attention(
            q,
            own_k,
            own_v,
            query_landmarks=ql,
            key_landmarks=kl,
            query_mixing=self.query_mixing(),
            key_mixing=self.key_mixing(),
            query_mask=pooling.row_mask,
            key_mask=own_mask,
            landmark_mask=pooling.landmark_mask,
            impl=self.impl,
            process_group=None if self.ranks is None else self.ranks.group,
        )
        if self._observers and self.ranks is not None:
            raise NotImplementedError(
                "a layer cannot be looked into while its tokens are shared out to processes: "
                "crosshead.shard_tokens(model, None) takes whole inputs again"
            )
        for observe in self._observers:
            observe(self, x, context, pooling, (ql, kl), out)
        out = out.transpose(1, 2).flatten(2)
        if self.local is not None:
            out = out + self.local(zero_outside(pooling.mask, v), grid=pooling.grid)
        return zero_outside(pooling.row_mask, self.proj_drop(project(self.proj, out)))

    def _project(self, x: Tensor, first: int, last: int) -> Tensor:
        """Queries (0), keys (1) and values (2) from `first` up to `last`, if possible without the others."""
        rows = slice(first * self.dim, last * self.dim)
        if last - first == 3 or not weights_tell_all(self.qkv, x):
            return _check_projected(project(self.qkv, x), 3 * self.dim)[..., rows]
        return linear(x, self.qkv.weight[rows], None if self.qkv.bias is None else self.qkv.bias[rows])

    def _heads(self, x: Tensor) -> tuple[Tensor, ...]:
        """`(B, N, parts C)` to `parts` tensors `(B, H, N, D)`."""
        return x.unflatten(-1, (-1, self.num_heads, self.head_dim)).permute(2, 0, 3, 1, 4).unbind(0)

    def __prepare_scriptable__(self) -> NoReturn:
        refuse_torchscript(self)

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return (
            f"{self.dim}, {self.num_heads}, landmarks={self.landmarks}, mixing={self.mixing!r}, "
            f"num_prefix_tokens={self.num_prefix_tokens}, impl={self.impl!r}"
        )


def _context_or(x: Tensor, context: Tensor | None) -> Tensor:
    """The context, or `x` where a traced layer, which cannot tell beforehand, is called without."""
    return x if context is None else context


def _check_projected(projected: Tensor, width: int) -> Tensor:
    """What `qkv` gave, refused where it has not `width` channels."""
    if projected.shape[-1] != width:
        raise ValueError(
            f"qkv must give queries, keys and values of all heads, {width} channels; got "
            f"{projected.shape[-1]}: where it is split over devices, let it give the whole, as "
            "ColwiseParallel(output_layouts=Replicate()) does"
        )
    return projected


def refuse_torchscript(module: nn.Module) -> NoReturn:
    """Refuses `torch.jit.script`, in a module's `__prepare_scriptable__`, which it asks first.

    Raises:
        NotImplementedError: always.
    """
    raise NotImplementedError(
        f"torch.jit.script cannot compile {type(module).__name__}: TorchScript has no types for its grids, "
        "masks and modules as arguments. Use torch.export.export, or torch.jit.trace"
    )

"""Forms of interactive attention that the ablation asks about, and that the library does not offer.

Legend: `B` batch, `H` heads, `N` tokens, `C` channels, `D` head dim, `L` landmarks.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crosshead import attention_factors, interactive_attention, pool_landmarks
from crosshead.attention.mixing import HeadMixer, HeadMixing
from crosshead.attention.module import InteractiveAttention


class OneFactor(InteractiveAttention):
    """Heads talk on one of the two factors only.

    Args:
        dim: channels `C`.
        num_heads: `H`.
        factor: where they talk: "query", on which tokens look at landmarks, or "key".
        **options: as `InteractiveAttention` takes them.

    Raises:
        ValueError: if `factor` is neither.

    Example:
        >>> layer = OneFactor(32, 4, landmarks=(2, 2), factor="query")
        >>> layer.query_mixing.mixing, layer.key_mixing.mixing
        ('both', 'none')
    """

    def __init__(self, dim: int, num_heads: int, *, factor: Literal["query", "key"], **options) -> None:
        super().__init__(dim, num_heads, **options)
        if factor not in ("query", "key"):
            raise ValueError(f"factor must be query or key; got {factor!r}")
        silent = "key_mixing" if factor == "query" else "query_mixing"
        setattr(self, silent, HeadMixer(num_heads, mixing="none"))


class TwoLayers(InteractiveAttention):
    """Heads talk through two linear maps with a GELU between them, on the weights of both factors.

        y_g = x_g + sum_h R2[g, h] GELU(sum_i R1[h, i] x_i)

    The second matrix starts at zero, so that a fresh layer is plain factored attention; between the two are
    as many channels as heads. Both factors are held in memory.

    Args:
        dim: channels `C`.
        num_heads: `H`.
        **options: as `InteractiveAttention` takes them, without `mixing` and `local_kernel`.

    Example:
        >>> TwoLayers(32, 4, landmarks=(2, 2))(torch.randn(2, 20, 32), grid=(5, 4)).shape
        torch.Size([2, 20, 32])
    """

    def __init__(self, dim: int, num_heads: int, *, landmarks: Sequence[int], **options) -> None:
        super().__init__(dim, num_heads, landmarks=landmarks, mixing="none", **options)
        square = (num_heads, num_heads)
        self.inner_mixing = nn.ParameterList([torch.randn(square) * num_heads**-0.5 for _ in range(2)])
        self.outer_mixing = nn.ParameterList([torch.zeros(square) for _ in range(2)])

    def forward(self, x: Tensor, *, grid: Sequence[int]) -> Tensor:
        """Attends over `(B, N, C)`."""
        q, k, v = project(self, x)
        ql, kl, _ = project(self, pool_landmarks(x, grid=grid, landmarks=self.landmarks))
        factors = attention_factors(q, k, query_landmarks=ql, key_landmarks=kl)
        query_factor, key_factor = (
            weights + _mix(outer, F.gelu(_mix(inner, weights)))
            for weights, inner, outer in zip(factors, self.inner_mixing, self.outer_mixing, strict=True)
        )
        out = query_factor.to(v.dtype) @ (key_factor.to(v.dtype) @ v)
        return self.proj_drop(self.proj(out.transpose(1, 2).flatten(2)))


def project(layer: InteractiveAttention, x: Tensor) -> tuple[Tensor, ...]:
    """Queries, keys and values `(B, H, N, D)` of tokens `(B, N, C)`."""
    return layer.qkv(x).unflatten(-1, (3, layer.num_heads, layer.head_dim)).permute(2, 0, 3, 1, 4).unbind(0)


def _mix(matrix: Tensor, weights: Tensor) -> Tensor:
    return torch.einsum("gh,bhnl->bgnl", matrix.to(weights.dtype), weights)


class StridedLandmarks(InteractiveAttention):
    """Landmarks by a depth-wise convolution whose stride is its width, in place of averages.

    It starts as the average, so that a fresh layer is the library's.

    Args:
        dim: channels `C`.
        num_heads: `H`.
        cell: tokens along each axis of a cell; the grid must be `landmarks` times as large.
        **options: as `InteractiveAttention` takes them.

    Example:
        >>> layer = StridedLandmarks(32, 4, landmarks=(2, 2), cell=3)
        >>> layer(torch.randn(1, 36, 32), grid=(6, 6)).shape
        torch.Size([1, 36, 32])
    """

    def __init__(self, dim: int, num_heads: int, *, cell: int, **options) -> None:
        super().__init__(dim, num_heads, **options)
        self.cell = cell
        # One kernel for each channel, kept as a plain parameter: initialisers of whole models, which know
        # convolutions, leave its averages alone.
        self.pooling = nn.Parameter(torch.full((dim, 1, cell, cell), 1 / cell**2))

    def forward(self, x: Tensor, *, grid: Sequence[int]) -> Tensor:
        """Attends over `(B, N, C)`.

        Raises:
            ValueError: if the grid is not `landmarks` times `cell`.
        """
        grid = tuple(grid)
        landmarks = (self.landmarks,) * len(grid) if isinstance(self.landmarks, int) else self.landmarks
        wanted = tuple(cells * self.cell for cells in landmarks)
        if grid != wanted:
            raise ValueError(
                f"cell={self.cell} with landmarks={landmarks} needs the grid {wanted}; got {grid}"
            )
        pooled = F.conv2d(x.mT.unflatten(2, grid), self.pooling, stride=self.cell, groups=self.dim)
        q, k, v = project(self, x)
        ql, kl, _ = project(self, pooled.flatten(2).mT)
        out = interactive_attention(
            self.q_norm(q),
            self.k_norm(k),
            v,
            query_landmarks=ql,
            key_landmarks=kl,
            query_mixing=self.query_mixing(),
            key_mixing=self.key_mixing(),
            impl=self.impl,
        )
        out = out.transpose(1, 2).flatten(2)
        if self.local is not None:
            out = out + self.local(v, grid=grid)
        return self.proj_drop(self.proj(out))


class RandomMixing(InteractiveAttention):
    """Mixing matrices that start at random instead of at zero: a fresh layer has heads that talk already.

    Args:
        dim: channels `C`.
        num_heads: `H`.
        std: standard deviation of their entries, times `sqrt(H)`.
        **options: as `InteractiveAttention` takes them.

    Example:
        >>> layer = RandomMixing(32, 4, landmarks=(2, 2), std=0.5)
        >>> bool((layer.query_mixing.logits != 0).all())
        True
    """

    def __init__(self, dim: int, num_heads: int, *, std: float, **options) -> None:
        super().__init__(dim, num_heads, **options)
        for mixer in (self.query_mixing, self.key_mixing):
            for matrix in mixer.parameters():
                nn.init.normal_(matrix, std=std * num_heads**-0.5)


class LowRankMixing(InteractiveAttention):
    """Mixing matrices of low rank, `R = U V^T` with `U` and `V` of shape `(H, rank)`.

    `V` starts at zero, so that a fresh layer is plain factored attention.

    Args:
        dim: channels `C`.
        num_heads: `H`.
        rank: of each matrix.
        **options: as `InteractiveAttention` takes them.

    Raises:
        ValueError: if `rank` is below 1.

    Example:
        >>> layer = LowRankMixing(32, 8, landmarks=(2, 2), rank=2)
        >>> [tuple(x.shape) for x in layer.query_mixing.parameters()]
        [(8, 2), (8, 2), (8, 2), (8, 2)]
    """

    def __init__(self, dim: int, num_heads: int, *, rank: int, **options) -> None:
        super().__init__(dim, num_heads, **options)
        if rank < 1:
            raise ValueError(f"rank must be at least 1; got {rank}")
        self.query_mixing, self.key_mixing = (_LowRankMixer(num_heads, self.mixing, rank) for _ in range(2))


class _LowRankMixer(nn.Module):
    def __init__(self, num_heads: int, mixing: str, rank: int) -> None:
        super().__init__()
        self.mixing = mixing
        present = [part for part in HeadMixing._fields if mixing in (part, "both")]
        self.left = nn.ParameterDict({part: torch.randn(num_heads, rank) * rank**-0.5 for part in present})
        self.right = nn.ParameterDict({part: torch.zeros(num_heads, rank) for part in present})

    def forward(self) -> HeadMixing:
        return HeadMixing(**{part: self.left[part] @ self.right[part].mT for part in self.left})


class SlowMixing(InteractiveAttention):
    """Mixing matrices that learn more slowly: each is a parameter times `scale`.

    An optimiser such as Adam moves every entry by about the learning rate, however small its gradient; a
    matrix whose useful entries are near 1 / H is then moved by much of itself in a few steps.

    Args:
        dim: channels `C`.
        num_heads: `H`.
        scale: the learning rate of the matrices over that of all other parameters.
        **options: as `InteractiveAttention` takes them.

    Raises:
        ValueError: if `scale` is not above 0.

    Example:
        >>> layer = SlowMixing(32, 4, landmarks=(2, 2), scale=0.1)
        >>> _ = torch.nn.init.ones_(layer.query_mixing.logits)
        >>> round(float(layer.query_mixing().logits[0, 0]), 4)
        0.1
    """

    def __init__(self, dim: int, num_heads: int, *, scale: float, **options) -> None:
        super().__init__(dim, num_heads, **options)
        if scale <= 0:
            raise ValueError(f"scale must be above 0; got {scale}")
        self.query_mixing, self.key_mixing = (
            _ScaledMixer(num_heads, scale, mixing=mixer.mixing, group_size=mixer.group_size)
            for mixer in (self.query_mixing, self.key_mixing)
        )


class _ScaledMixer(HeadMixer):
    def __init__(self, num_heads: int, scale: float, **options) -> None:
        super().__init__(num_heads, **options)
        self.scale = scale

    def forward(self) -> HeadMixing:
        found = super().forward()
        return HeadMixing(*(None if matrix is None else self.scale * matrix for matrix in found))


VARIANTS: dict[str, type[InteractiveAttention]] = {
    "interactive-one-factor": OneFactor,
    "interactive-two-layers": TwoLayers,
    "interactive-strided": StridedLandmarks,
    "interactive-random-mixing": RandomMixing,
    "interactive-low-rank": LowRankMixing,
    "interactive-slow-mixing": SlowMixing,
}

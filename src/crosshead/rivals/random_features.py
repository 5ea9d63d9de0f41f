"""Softmax attention estimated from random features.

Legend: `B` batch, `H` heads, `N` tokens, `C` channels, `D = C / H` head dim, `m` random features.
"""

from torch import Tensor

from crosshead.rivals.adapter import library_class, set_bias
from crosshead.rivals.layer import Capabilities, Mechanism, Rival


class PerformerAttention(Rival):
    """FAVOR+: positive orthogonal random features of the softmax kernel.

        phi(x) = m^-1/2 (exp(W x' - |x'|^2 / 2 - c) + 1e-4),    x' = D^-1/4 x
        O = phi(Q) (phi(K)^T V) / (phi(Q) phi(K)^T 1)

    The rows of `W`, `(m, D)`, are orthogonal Gaussians, and `c` is the largest entry of `W x'`, of each query
    and of all keys, which keeps exponentials in range.

    Source: K. Choromanski et al., "Rethinking Attention with Performers", arXiv 2009.14794, lemma 1; the
    package performer-pytorch. Cost `N m C`.

    As in the package: `m` is `D ln D` rounded down; `W` is a buffer, drawn once and stored with the weights,
    for the redrawing belongs to the package's whole model and not to its layer. No mask: the package's own
    zeroes values only and leaves masked keys in the denominator and in `c`. Assumed: nothing.

    Args:
        dim: channels `C`.
        num_heads: `H`.
        **options: as `Rival` takes them.

    Raises:
        ImportError: performer-pytorch is not installed.
        ValueError: a head has one channel, of which there are no features.

    Example:
        >>> import torch
        >>> PerformerAttention(32, 4, grid=(5, 3))(torch.randn(2, 15, 32), grid=(5, 3)).shape
        torch.Size([2, 15, 32])
    """

    mechanism = Mechanism(
        title="Performer",
        paper="Choromanski et al. 2020, arXiv 2009.14794",
        complexity="N m C",
        source="performer-pytorch SelfAttention",
        heads_talk=False,
        capabilities=Capabilities(key_mask=False, any_grid=True, any_length=True, linear=True),
    )

    def __init__(self, dim: int, num_heads: int, **options) -> None:
        super().__init__(dim, num_heads, **options)
        if self.head_dim < 2:
            raise ValueError(
                f"dim must be at least twice num_heads for D ln D features; got {dim=}, {num_heads=}"
            )
        layer_class = library_class("performer_pytorch", "SelfAttention", package="performer-pytorch")
        self.layer = layer_class(dim, heads=num_heads, dim_head=self.head_dim, qkv_bias=self.qkv_bias).to(
            **self.placed
        )
        set_bias(self.layer.to_out, wanted=self.proj_bias)

    def attend(self, x: Tensor, grid: tuple[int, int], key_mask: Tensor | None) -> Tensor:
        """`(B, N, C)` to `(B, N, C)`."""
        return self.layer(x)

"""Linear attention of ReLU features at two scales, made for images.

Legend: `B` batch, `H` heads, `N` tokens, `C` channels, `D = C / H` head dim.
"""

from torch import Tensor

from crosshead.rivals.adapter import library_class
from crosshead.rivals.layer import Capabilities, Mechanism, Rival


class ReluLinearAttention(Rival):
    """EfficientViT's multi-scale linear attention.

        O_i = relu(Q_i) (sum_j relu(K_j)^T V_j) / (relu(Q_i) . sum_j relu(K_j) + 1e-5)

    for `H` heads on the projected tokens and `H` more on a copy of queries, keys and values that a 5 x 5
    depth-wise and a 1 x 1 convolution within heads have gathered; the last projection takes both to `C`
    channels.

    Source: H. Cai et al., "EfficientViT", arXiv 2205.14756, section 3.1; timm's `LiteMLA`. Cost `N D C`.

    As in timm: a **BatchNorm** follows the last projection, so in training samples of a batch depend on each
    other, and weights come with running statistics; the sums run in float32 whatever the input. No mask: the
    convolution and the norm take none. Assumed: `qkv_bias` is the bias of the projection and of the gathering
    convolutions, and `proj_bias` changes nothing, since the shift of the BatchNorm is that bias.

    Args:
        dim: channels `C`.
        num_heads: `H`.
        **options: as `Rival` takes them.

    Raises:
        ImportError: timm is not installed.

    Example:
        >>> import torch
        >>> ReluLinearAttention(32, 4, grid=(5, 3))(torch.randn(2, 15, 32), grid=(5, 3)).shape
        torch.Size([2, 15, 32])
    """

    mechanism = Mechanism(
        title="EfficientViT linear attention",
        paper="Cai et al. 2022, arXiv 2205.14756",
        complexity="N D C",
        source="timm LiteMLA",
        heads_talk=False,
        capabilities=Capabilities(key_mask=False, any_grid=True, any_length=True, linear=True),
    )

    def __init__(self, dim: int, num_heads: int, **options) -> None:
        super().__init__(dim, num_heads, **options)
        layer_class = library_class("timm.models.efficientvit_mit", "LiteMLA", package="timm")
        self.layer = layer_class(
            dim, dim, heads=num_heads, dim=self.head_dim, use_bias=(self.qkv_bias, False), **self.placed
        )

    def attend(self, x: Tensor, grid: tuple[int, int], key_mask: Tensor | None) -> Tensor:
        """`(B, N, C)` to `(B, N, C)`."""
        return self.layer(x.mT.unflatten(2, grid)).flatten(2).mT

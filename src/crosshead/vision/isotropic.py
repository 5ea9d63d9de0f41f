"""timm's plain ViT around any attention of the call shape `(B, N, C), grid -> (B, N, C)`.

timm builds attention from a class and calls it without the token grid. `bind_attention` makes the
class, and `GridViT` sees to it that its instances learn the grid.
"""

from collections.abc import Mapping
from typing import Any

from timm.models.vision_transformer import VisionTransformer
from torch import nn

from crosshead.attention.module import InteractiveAttention
from crosshead.vision.on_grid import GridAttention, GridViT, mixed


def bind_attention(attention: type[nn.Module], *, num_prefix_tokens: int = 0, **options) -> type[nn.Module]:
    """A subclass of `attention` that timm's ViT accepts as `attn_layer`.

    Args:
        attention: a module class, built as `attention(dim, num_heads, **options)` with timm's
            `qkv_bias`, `qk_norm`, `proj_bias`, `attn_drop`, `proj_drop`, `norm_layer`, `device` and
            `dtype` among the options, and called as `attention(x, grid=(rows, columns))`.
        num_prefix_tokens: class and register tokens; passed on where there are any.
        **options: bound to the class: landmarks, mixing and the like.

    Returns:
        The class. Its instances keep the state dict of `attention`, and learn the grid from a `GridViT`.

    Raises:
        TypeError: `attention` is not a module class.

    Example:
        >>> layer = bind_attention(InteractiveAttention, landmarks=(7, 7), num_prefix_tokens=1)
        >>> layer(96, num_heads=6).landmarks
        (7, 7)
    """
    if not (isinstance(attention, type) and issubclass(attention, nn.Module)):
        raise TypeError(f"attention must be a class derived from nn.Module, not an object; got {attention!r}")
    if num_prefix_tokens:
        options["num_prefix_tokens"] = num_prefix_tokens

    class Bound(mixed(GridAttention, attention)):
        def __init__(self, dim: int, num_heads: int, *, scale_norm: bool = False, **timm_options) -> None:
            if scale_norm:
                raise NotImplementedError("scale_attn_norm must be False: bound attention has no such norm")
            super().__init__(dim, num_heads, **timm_options, **options)

    Bound.__name__ = Bound.__qualname__ = f"Bound{attention.__name__}"
    return Bound


class IsotropicViT(GridViT, VisionTransformer):
    """timm's `VisionTransformer` with another attention: one resolution from first block to last.

    Args:
        attention: the class of the attention, as `bind_attention` takes it.
        attention_options: what to bind to it; None means 7 x 7 landmarks for interactive attention
            and nothing for any other.
        class_token: as in timm.
        reg_tokens: as in timm.
        **vit_options: all other arguments of timm's `VisionTransformer`, such as `img_size`,
            `patch_size`, `embed_dim`, `depth`, `num_heads` and `dynamic_img_size`.

    Raises:
        TypeError: `attention` is not a module class, or does not know an option.

    Example:
        >>> import torch
        >>> size = {"img_size": 28, "patch_size": 2, "embed_dim": 64, "depth": 2, "num_heads": 4}
        >>> IsotropicViT(num_classes=10, in_chans=1, **size)(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        *,
        attention: type[nn.Module] = InteractiveAttention,
        attention_options: Mapping[str, Any] | None = None,
        class_token: bool = True,
        reg_tokens: int = 0,
        **vit_options,
    ) -> None:
        if attention_options is None:
            attention_options = {"landmarks": (7, 7)} if attention is InteractiveAttention else {}
        prefix_tokens = int(class_token) + reg_tokens
        layer = bind_attention(attention, num_prefix_tokens=prefix_tokens, **attention_options)
        super().__init__(class_token=class_token, reg_tokens=reg_tokens, attn_layer=layer, **vit_options)
        self.share_grid()

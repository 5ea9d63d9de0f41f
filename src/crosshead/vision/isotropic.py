"""timm's plain ViT around any attention of the call shape `(B, N, C), grid -> (B, N, C)`.

timm builds attention from a class and calls it without the token grid. `bind_attention` makes the
class, and a `TokenGrid` tells its instances what the patch embedding knows.
"""

from collections.abc import Mapping
from typing import Any

from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from crosshead.attention.module import InteractiveAttention


class TokenGrid:
    """The rows and columns of tokens that a patch embedding makes, for layers that are not told.

    Where the image size is fixed the embedding itself knows them. Where it is free
    (`dynamic_img_size`) the last image decides. Gradient checkpointing attends again in the backward
    pass, so there that pass must come before the next image of another shape.

    Args:
        patch_embed: the `patch_embed` of a timm ViT.

    Example:
        >>> from timm.layers import PatchEmbed
        >>> TokenGrid(PatchEmbed(32, 4)).current()
        (8, 8)
    """

    def __init__(self, patch_embed: Any) -> None:
        self.patch_embed = patch_embed
        self.last: tuple[int, int] | None = None
        if not patch_embed.flatten:
            patch_embed.register_forward_hook(self)

    def __call__(self, patch_embed: nn.Module, args: tuple, tokens: Tensor) -> None:
        """Notes the grid of `tokens`, `(B, rows, columns, C)`: a forward hook."""
        self.last = tokens.shape[1], tokens.shape[2]

    def current(self) -> tuple[int, int]:
        """Rows and columns of the image that is passing through.

        Raises:
            RuntimeError: none has passed yet.
        """
        grid = self.patch_embed.grid_size if self.patch_embed.flatten else self.last
        if grid is None:
            raise RuntimeError("the token grid is unknown until an image has passed: call the whole model")
        return grid


class BoundAttention:
    """Mixed into an attention class, takes the call of timm's blocks and adds the grid."""

    token_grid: TokenGrid

    def forward(self, x: Tensor, attn_mask: None = None, is_causal: bool = False) -> Tensor:
        """Attends over `(B, N, C)` on the grid that the model's patch embedding made.

        Raises:
            NotImplementedError: a mask or causality.
        """
        if attn_mask is not None or is_causal:
            raise NotImplementedError(
                f"attn_mask must be None and is_causal False for {type(self).__name__}, which attends over "
                "a whole grid of tokens: cut away what should not be seen before the patch embedding"
            )
        return super().forward(x, grid=self.token_grid.current())  # pyright: ignore[reportAttributeAccessIssue]


def bind_attention(attention: type[nn.Module], *, num_prefix_tokens: int = 0, **options) -> type[nn.Module]:
    """A subclass of `attention` that timm's ViT accepts as `attn_layer`.

    Args:
        attention: a module class, built as `attention(dim, num_heads, **options)` with timm's
            `qkv_bias`, `qk_norm`, `proj_bias`, `attn_drop`, `proj_drop`, `norm_layer`, `device` and
            `dtype` among the options, and called as `attention(x, grid=(rows, columns))`.
        num_prefix_tokens: class and register tokens; passed on where there are any.
        **options: bound to the class: landmarks, mixing and the like.

    Returns:
        The class. Its instances keep the state dict of `attention`, and need a `token_grid`.

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

    class Bound(BoundAttention, attention):
        def __init__(self, dim: int, num_heads: int, *, scale_norm: bool = False, **timm_options) -> None:
            if scale_norm:
                raise NotImplementedError("scale_attn_norm must be False: bound attention has no such norm")
            super().__init__(dim, num_heads, **timm_options, **options)

    Bound.__name__ = Bound.__qualname__ = f"Bound{attention.__name__}"
    return Bound


class IsotropicViT(VisionTransformer):
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
        token_grid = TokenGrid(self.patch_embed)
        for module in self.modules():
            if isinstance(module, BoundAttention):
                module.token_grid = token_grid

    def no_weight_decay(self) -> set[str]:
        """timm's names, and the head-mixing matrices."""
        mixing = {name for name, _ in self.named_parameters() if "_mixing." in name}
        return super().no_weight_decay() | mixing

"""How attention inside a timm ViT learns the rows and columns of its tokens.

timm calls attention with tokens alone. Where the image size is fixed, every attention is told the grid
once. Where it is free (`dynamic_img_size`), the grid travels with each call, as an argument: timm's ViTs and
their blocks hand `attn_mask` through to the attention untouched, and no mask has a meaning there, so the grid
takes that road. Nothing is noted on the side, so threads, replicas, copies and recomputation under
gradient checkpointing each see the grid of their own images.
"""

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from timm.layers import Attention, PatchEmbed
from timm.models import checkpoint
from timm.models.naflexvit import NaFlexVit
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

# timm's two kinds of plain ViT.
ViT = VisionTransformer | NaFlexVit
if TYPE_CHECKING:
    _Base = VisionTransformer  # of which both kinds have what is used
else:
    _Base = nn.Module

torch.fx.wrap("refuse_masks")  # a tracer does not know whether there is a mask: the traced model asks


class Carried(NamedTuple):
    """What travels in place of a mask.

    Attributes:
        grid: rows and columns of tokens.
        checkpointing: whether blocks keep their input alone and compute again in the backward pass.
    """

    grid: tuple[int, int]
    checkpointing: bool = False


class GridAttention:
    """Mixed into attention that is called as `attention(x, grid=...)`, takes the call of timm's blocks."""

    token_grid: tuple[int, int] | None = None

    def forward(self, x: Tensor, attn_mask: Carried | None = None, is_causal: bool = False) -> Tensor:
        """Attends over `(B, N, C)`, on the grid that travels with the call or else on the fixed one.

        Raises:
            NotImplementedError: if there is a mask or causality.
            RuntimeError: if the image size is free and no grid came along.
        """
        carried = isinstance(attn_mask, Carried)
        refuse_masks(type(self).__name__, None if carried else attn_mask, is_causal)
        grid = attn_mask.grid if carried else self.token_grid
        if grid is None:
            raise RuntimeError(
                "the token grid must be known; got tokens alone, and dynamic_img_size leaves it open: call "
                "the whole model, or the block with attn_mask=Carried((rows, columns))"
            )
        return super().forward(x, grid=grid)  # pyright: ignore[reportAttributeAccessIssue]


class SoftmaxOnGrid(nn.Module):
    """Mixed into softmax attention that stays in a ViT whose other layers need the grid: it does not."""

    def forward(self, x: Tensor, attn_mask: Carried | None = None, is_causal: bool = False) -> Tensor:
        """As in timm; a grid that travels with the call is let go.

        Raises:
            NotImplementedError: if there is a mask or causality.
        """
        refuse_masks(type(self).__name__, None if isinstance(attn_mask, Carried) else attn_mask, is_causal)
        return super().forward(x)


class GridBlock(nn.Module):
    """Mixed into a block of timm's ViT: gradient checkpointing that takes the grid along.

    timm's own leaves out every argument but the tokens.
    """

    def forward(self, x: Tensor, attn_mask: Carried | None = None, is_causal: bool = False) -> Tensor:
        """The block, checkpointed if what it is handed says so."""
        forward = functools.partial(super().forward, attn_mask=attn_mask, is_causal=is_causal)
        if isinstance(attn_mask, Carried) and attn_mask.checkpointing:
            # torch 2.11 does not say what a checkpoint returns.
            output: Any = checkpoint(forward, x)
            return output
        return forward(x)


class GridViT(_Base):
    """A ViT of timm around attention that needs the token grid; mixed into the class of a swapped model."""

    blocks: nn.Sequential

    def share_grid(self) -> None:
        """Tells the grid to every attention, or where it is free makes the blocks ready to carry it."""
        if self.dynamic_img_size:
            # NaFlexVit checkpoints its blocks with all that it hands to them.
            for block in [] if isinstance(self, NaFlexVit) else self.blocks.children():
                mix_in(GridBlock, block)
            for attention in [module for module in self.modules() if isinstance(module, Attention)]:
                mix_in(SoftmaxOnGrid, attention)
            return
        for module in self.modules():
            if isinstance(module, GridAttention):
                module.token_grid = tuple(self.patch_embed.grid_size)

    def set_input_size(self, *sizes: Any, **named_sizes: Any) -> None:
        """As in timm."""
        super().set_input_size(*sizes, **named_sizes)
        self.share_grid()

    def forward_features(self, x: Tensor, **masks: Any) -> Tensor:
        """As in timm.

        Raises:
            NotImplementedError: if there is a mask or causality.
            ValueError: if a free image size is not a multiple of the patch of a hybrid ViT.
        """
        return super().forward_features(x, **self._carry_grid(x, masks))

    def forward_intermediates(self, x: Tensor, *args: Any, **options: Any) -> Any:
        """As in timm.

        Raises:
            NotImplementedError: if there is a mask or causality.
            ValueError: if a free image size is not a multiple of the patch of a hybrid ViT.
        """
        return super().forward_intermediates(x, *args, **self._carry_grid(x, options))

    def carried(self, height: int, width: int) -> Carried | None:
        """What the attention of this ViT is to be handed as `attn_mask` for images of a size in pixels.

        None where the size is fixed, and the attention knows its grid.

        Raises:
            ValueError: if a free image size is not a multiple of the patch of a hybrid ViT.
        """
        if not self.dynamic_img_size:
            return None
        return Carried(self._token_grid(height, width), self.grad_checkpointing)

    def _carry_grid(self, x: Tensor, options: dict[str, Any]) -> dict[str, Any]:
        if not self.dynamic_img_size:
            return options
        refuse_masks(type(self).__name__, options.get("attn_mask"), options.get("is_causal", False))
        return {**options, "attn_mask": self.carried(*x.shape[-2:])}

    def _token_grid(self, height: int, width: int) -> tuple[int, int]:
        rows, columns = self.patch_embed.dynamic_feat_size((height, width))
        if not isinstance(self.patch_embed, PatchEmbed):  # a CNN, whose roundings timm does not foresee
            vertical, horizontal = self.patch_embed.feat_ratio(as_scalar=False)
            if (rows * vertical, columns * horizontal) != (height, width):
                raise ValueError(
                    f"image height and width must be multiples of {vertical} and {horizontal} for the "
                    f"{type(self.patch_embed).__name__} of a ViT whose attention needs a grid; "
                    f"got {height} x {width}: resize or pad the images"
                )
        return rows, columns

    def no_weight_decay(self) -> set[str]:
        """timm's names, and the head-mixing matrices: residuals around "no interaction"."""
        mixing = {name for name, _ in self.named_parameters() if "_mixing." in name}
        return super().no_weight_decay() | mixing


class GridNaFlexViT(GridViT):
    """As `GridViT`, for timm's `NaFlexVit`; of the two kinds of batches that takes, tensors of images alone.

    Patches of images of different grids, behind a mask, have no grid that a batch could share.
    """

    dynamic_img_size = True
    embeds: Any

    def forward(
        self, x: Tensor, patch_coord: object = None, patch_valid: object = None, attn_mask: object = None
    ) -> Tensor:
        """(B, C, H, W) images to logits.

        Raises:
            NotImplementedError: if there are patches in place of images, or a mask.
        """
        self._carry_grid(x, {"patch_coord": patch_coord, "patch_valid": patch_valid, "attn_mask": attn_mask})
        return super().forward(x)

    def forward_features(
        self,
        patches: Tensor,
        patch_coord: object = None,
        patch_valid: object = None,
        attn_mask: object = None,
    ) -> Tensor:
        """(B, C, H, W) images, by timm's name `patches`, to tokens.

        Raises:
            NotImplementedError: as `forward`.
        """
        return super().forward_features(
            patches, patch_coord=patch_coord, patch_valid=patch_valid, attn_mask=attn_mask
        )

    def _carry_grid(self, x: Any, options: dict[str, Any]) -> dict[str, Any]:
        given = [name for name in ("patch_coord", "patch_valid") if options.get(name) is not None]
        if isinstance(x, dict) or x.ndim != 4 or given:
            raise NotImplementedError(
                "images must be one tensor (batch, channels, height, width); got patches, whose images have "
                "grids of their own, and landmarks need one for the batch: batch images of one size"
            )
        return super()._carry_grid(x, options)

    def _token_grid(self, height: int, width: int) -> tuple[int, int]:
        return self.embeds.dynamic_feat_size((height, width))


def refuse_masks(name: str, attn_mask: object, is_causal: object) -> None:
    """Refuses what has no meaning for tokens of a whole grid.

    Raises:
        NotImplementedError: if there is a mask or causality.
    """
    if attn_mask is not None or is_causal:
        raise NotImplementedError(
            f"attn_mask must be None and is_causal False for {name}, which attends over a "
            "whole grid of tokens: cut away what should not be seen before the patch embedding"
        )


class Mixed:
    """Lets instances of classes that `mixed` made be copied and pickled, though no module holds the class."""

    made_of: tuple[type, type[nn.Module]]

    def __reduce_ex__(self, protocol: Any) -> tuple:
        _, _, *state = super().__reduce_ex__(protocol)
        return _empty, self.made_of, *state


@functools.cache
def mixed(mixin: type, base: type[nn.Module]) -> type[nn.Module]:
    """The subclass of `base` that has `mixin` before it.

    Example:
        >>> import copy
        >>> copy.copy(mixed(GridAttention, nn.Identity)())
        IdentityOnGrid()
    """
    name = f"{base.__name__}OnGrid"
    return type(name, (Mixed, mixin, base), {"made_of": (mixin, base), "__module__": base.__module__})


def mix_in(mixin: type, module: nn.Module) -> None:
    """Makes `module` an instance of `mixin` as well, in place; what it holds and its other classes stay."""
    if not isinstance(module, mixin):
        module.__class__ = mixed(mixin, type(module))


def _empty(mixin: type, base: type[nn.Module]) -> nn.Module:
    cls = mixed(mixin, base)
    return cls.__new__(cls)

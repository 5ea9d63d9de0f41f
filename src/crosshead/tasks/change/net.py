"""A change detector: one backbone looks at two dates, a light decoder says where they differ.

Legend: `B` batch, `I` channels of an image, `H` and `W` pixels, `K` classes, `C` channels of a map, `X` and
`Y` its rows and columns.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import timm
import torch
from timm.layers import LayerNorm2d
from torch import Tensor, nn
from torch.nn import functional as F

import crosshead.vision.variants  # noqa: F401 (timm has to know the names)
from crosshead.tasks.windows import sliding_windows


class DateFusion(nn.Module):
    """Joins the maps of two dates at one scale: a 1 x 1 convolution, a norm over the channels, GELU.

        ordered    conv([ |a - b|, a, b ])          symmetric    conv([ |a - b|, a + b ])

    Args:
        in_dim: channels of each date.
        out_dim: channels of the joint map.
        symmetric: whether exchanging the dates changes nothing.

    Example:
        >>> DateFusion(32, 64)(torch.zeros(1, 32, 9, 7), torch.zeros(1, 32, 9, 7)).shape
        torch.Size([1, 64, 9, 7])
    """

    def __init__(self, in_dim: int, out_dim: int, *, symmetric: bool = False) -> None:
        super().__init__()
        self.symmetric = symmetric
        self.conv = nn.Conv2d((2 if symmetric else 3) * in_dim, out_dim, 1)
        self.norm = LayerNorm2d(out_dim)
        self.act = nn.GELU()

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """Two maps `(B, C, X, Y)` to one `(B, C', X, Y)`."""
        both = [before + after] if self.symmetric else [before, after]
        return self.act(self.norm(self.conv(torch.cat([(before - after).abs(), *both], dim=1))))


class ChangeDecoder(nn.Module):
    """A feature pyramid from the coarsest map to the finest, and one map of scores at its resolution.

    From scale to scale the map is enlarged (bilinear), brought to the width of the finer one, added to it and
    smoothed by a 3 x 3 convolution.

    Args:
        dims: channels of the maps, finest first.
        num_classes: scores of each pixel.
        drop_rate: dropout rate before the scores.

    Example:
        >>> maps = [torch.zeros(1, 16, 40, 36), torch.zeros(1, 64, 10, 9)]
        >>> ChangeDecoder([16, 64], num_classes=2)(maps).shape
        torch.Size([1, 2, 40, 36])
    """

    def __init__(self, dims: Sequence[int], *, num_classes: int, drop_rate: float = 0.0) -> None:
        super().__init__()
        self.widths = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in pairwise(dims))
        self.smoothing = nn.ModuleList(
            nn.Sequential(nn.Conv2d(dim, dim, 3, padding=1), LayerNorm2d(dim), nn.GELU()) for dim in dims[:-1]
        )
        self.drop = nn.Dropout(drop_rate)
        self.scores = nn.Conv2d(dims[0], num_classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps `(B, C_i, X_i, Y_i)`, finest first, to `(B, num_classes, X_0, Y_0)`."""
        x = maps[-1]
        for i in reversed(range(len(maps) - 1)):
            # Before it is enlarged the map has a quarter of the pixels, and the two steps commute.
            x = F.interpolate(self.widths[i](x), size=maps[i].shape[-2:], mode="bilinear")
            x = self.smoothing[i](maps[i] + x)
        return self.scores(self.drop(x))


class SiameseNet(nn.Module):
    """Two co-registered images in, a score for each pixel and class of change out.

        shared     one backbone, and one 3 x 3 convolution at full resolution, see both dates
        fused      at each scale the dates are joined: `DateFusion`
        decoded    from the coarsest scale up to full resolution: `ChangeDecoder`

    The full-resolution path is there because change in coarse imagery is often a matter of single pixels,
    which the stem of a backbone blurs. Images have any size: they are continued at their right and lower
    border by their last pixels up to a multiple of the largest stride, and the map is cut back. Attention
    sees that border too, so a padded image and a crop of it are not promised to agree.

    Nothing mixes samples in evaluation. In training a backbone with batch normalisation takes its statistics
    from both dates of the batch together; iViT has none.

    Args:
        backbone: timm's name of any model whose `features_only` gives maps `(B, C, X, Y)`.
        in_chans: channels `I` of an image.
        num_classes: scores of each pixel; 2 stands for unchanged and changed.
        dim: channels of the decoder at the scales of the backbone.
        detail_dim: channels at full resolution.
        symmetric: whether exchanging the dates leaves the scores as they are: right where only the fact of a
            change counts, wrong where its direction does.
        stem_stride: of iViT's stem: 4, or 2 or 1 for small images; None for the backbone's own.
        drop_rate: dropout rate before the scores.
        **backbone_options: further options of `timm.create_model`, such as `drop_path_rate` or `pretrained`.

    Raises:
        ValueError: if a count is below one, or a `stem_stride` is given and the backbone has no such option.

    Source: the task of GlobalMind (M. Hu, C. Wu, L. Zhang, ISPRS JPRS 211, 2024), and from it one idea: the
    difference |t1 - t2| is a map of its own beside the maps of the dates. What is not taken: its axial
    attention with a head for each channel (`crosshead.rivals` has it), queries of one date that attend to
    keys of the other, and its 3 x 3 convolution over the outputs of heads; here heads interact inside the
    backbone. The fusion and the decoder are ours; the pyramid is that of FPN (arXiv 1612.03144).

    Example:
        >>> net = SiameseNet("ivit_nano", in_chans=6, stem_stride=1, dim=16, depths=(1, 1, 1, 1))
        >>> net(torch.zeros(2, 6, 21, 30), torch.zeros(2, 6, 21, 30)).shape
        torch.Size([2, 2, 21, 30])
    """

    def __init__(
        self,
        backbone: str = "ivit_nano",
        *,
        in_chans: int,
        num_classes: int = 2,
        dim: int = 64,
        detail_dim: int = 16,
        symmetric: bool = False,
        stem_stride: int | None = None,
        drop_rate: float = 0.0,
        **backbone_options,
    ) -> None:
        super().__init__()
        counts = {"in_chans": in_chans, "num_classes": num_classes, "dim": dim, "detail_dim": detail_dim}
        for name, count in counts.items():
            if count < 1:
                raise ValueError(f"{name} must be 1 or more; got {count}")
        if stem_stride is not None:
            if not backbone.startswith("ivit_"):
                raise ValueError(f"stem_stride must be None for {backbone}: only iViT's stem has that option")
            backbone_options["stem_stride"] = stem_stride
        self.in_chans, self.num_classes, self.symmetric = in_chans, num_classes, symmetric
        self.backbone: Any = timm.create_model(
            backbone, features_only=True, in_chans=in_chans, **backbone_options
        )
        channels = self.backbone.feature_info.channels()
        self.stride = max(self.backbone.feature_info.reduction())
        self.detail = nn.Conv2d(in_chans, detail_dim, 3, padding=1)
        dims = [detail_dim, *(dim for _ in channels)]
        self.fusions = nn.ModuleList(
            DateFusion(of_date, joint, symmetric=symmetric)
            for of_date, joint in zip([detail_dim, *channels], dims, strict=True)
        )
        self.decoder = ChangeDecoder(dims, num_classes=num_classes, drop_rate=drop_rate)

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """Scores `(B, num_classes, H, W)` of two images `(B, I, H, W)`, the earlier one first.

        Raises:
            ValueError: if the images differ in shape, or have another number of channels.
        """
        if before.ndim != 4 or before.shape != after.shape or before.shape[1] != self.in_chans:
            raise ValueError(
                f"before and after must both be (B, {self.in_chans}, H, W); got {tuple(before.shape)} and "
                f"{tuple(after.shape)}"
            )
        height, width = before.shape[-2:]
        # Both dates in one batch: one pass through the weights, and one set of batch statistics.
        images = F.pad(
            torch.cat([before, after]), (0, -width % self.stride, 0, -height % self.stride), mode="replicate"
        )
        maps = [self.detail(images), *self.backbone(images)]
        # Not by `len` and `chunk`, which an export for any batch does not follow.
        count = before.shape[0]
        fused = [
            fusion(of_dates[:count], of_dates[count:])
            for fusion, of_dates in zip(self.fusions, maps, strict=True)
        ]
        return self.decoder(fused)[..., :height, :width]

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Decides whether the backbone recomputes its activations in the backward pass."""
        self.backbone.set_grad_checkpointing(enable)


def class_probabilities(
    net: Callable[[Tensor, Tensor], Tensor], before: Tensor, after: Tensor, *, tile: int | None
) -> Tensor:
    """The map of a pair, as it is predicted and as it is measured.

    Args:
        net: from two images (B, I, h, w) to scores (B, K, h, w).
        before: standardised images (B, I, H, W) of the earlier date.
        after: the same of the later date.
        tile: larger pairs are seen in overlapping windows of this side in pixels; None for never.

    Returns:
        Probabilities (B, K, H, W), float32.

    Example:
        >>> image = torch.zeros(1, 2, 9, 7)
        >>> class_probabilities(torch.sub, image, image, tile=4)[0, :, 8, 6]
        tensor([0.5000, 0.5000])
    """
    return sliding_windows(
        lambda both: net(*both.chunk(2, dim=1)),
        torch.cat([before, after], dim=1),
        size=max(before.shape[-2:]) if tile is None else tile,
    )

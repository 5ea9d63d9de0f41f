"""Whether a map depends on what the net has learned: the same map of a net whose weights are shuffled."""

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn


def shuffled_weights(
    model: nn.Module, parts: str | Iterable[str] | None = None, *, seed: int = 0
) -> nn.Module:
    """A copy of a model whose weights mean nothing: the entries of each parameter, in random order.

    A map that is the same for both tells of the image and not of the net. From the last part to the first,
    one more at a time, it is the cascade of the source, which draws weights anew; shuffled ones keep their
    sizes. Buffers stay as they are.

    Args:
        model: any module; it is not changed.
        parts: names of parts of it, or of parameters, whose weights are shuffled; None for all.
        seed: of the order.

    Raises:
        ValueError: if no parameter has such a name.

    Source: J. Adebayo et al., "Sanity checks for saliency maps", arXiv 1810.03292, section 3.

    Example:
        >>> from crosshead.explain import rank_correlation, record, relevance, shuffled_weights
        >>> from crosshead.vision import IViT
        >>> net = IViT(num_classes=10, depths=(1, 1, 2, 1), dims=(16, 16, 32, 32)).eval()
        >>> images = torch.randn(2, 3, 128, 96)
        >>> def explained(net):
        ...     with record(net, gradients=True) as recording:
        ...         scores = net(images)
        ...     return relevance(recording, scores[:, 3].sum())
        >>> rank_correlation(explained(net), explained(shuffled_weights(net))).shape
        torch.Size([2])
    """
    shuffled = copy.deepcopy(model)
    names = [parts] if isinstance(parts, str) else parts if parts is None else list(parts)
    known = dict(shuffled.named_parameters())
    for name in names or ():
        if not any(_within(each, name) for each in known):
            children = ", ".join(child for child, _ in model.named_children())
            raise ValueError(f"no parameter lies in part {name!r}; the model has the parts {children}")
    generator = torch.Generator().manual_seed(seed)
    for each, weight in known.items():
        if names is None or any(_within(each, name) for name in names):
            order = torch.randperm(weight.numel(), generator=generator).to(weight.device)
            weight.data = weight.data.flatten()[order].view_as(weight)
    return shuffled


def rank_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Spearman's correlation of the maps of each image: 1 for the same order, 0 for unrelated ones.

    Args:
        first: `(B, ...)`.
        second: as large.

    Returns:
        `(B,)`, from -1 to 1; equal numbers share their mean rank. NaN where a map is the same everywhere.

    Raises:
        ValueError: if shapes differ.

    Example:
        >>> first = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
        >>> rank_correlation(first, torch.tensor([[2.0, 4.0, 9.0], [5.0, 4.0, 0.0]]))
        tensor([ 1., -1.])
    """
    if first.shape != second.shape or first.ndim < 2:
        raise ValueError(
            f"maps must be (B, ...) of one shape; got {tuple(first.shape)} and {tuple(second.shape)}"
        )
    one, other = (_centred(_ranks(maps.flatten(1))) for maps in (first, second))
    found = (one * other).sum(1) / (one.square().sum(1) * other.square().sum(1)).sqrt()
    return found.to(first.dtype if first.is_floating_point() else torch.get_default_dtype())


def _ranks(values: Tensor) -> Tensor:
    """Of each row; equal ones have the mean of theirs."""
    ordered = values.sort(dim=1).values
    below, up_to = (torch.searchsorted(ordered, values, right=right) for right in (False, True))
    return (below + up_to).double()


def _centred(values: Tensor) -> Tensor:
    return values - values.mean(1, keepdim=True)


def _within(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")

"""What the ranks of a process group exchange, with gradients.

The loss is the sum of the losses of all ranks, and each rank calls `backward` on its own. So a gradient on a
rank is that of the whole loss with respect to what this rank holds; of what every rank holds a copy, the
gradients of the copies add up to the whole.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed
from torch.distributed import ProcessGroup
from torch.distributed import _functional_collectives as functional

from crosshead.attention.transforms import carry_tangents, under_export, under_torch_func


def refuse_transforms(tensors: Iterable[object]) -> None:
    """Refuses what would follow the arithmetic of this rank and not what it exchanges with others.

    Raises:
        NotImplementedError: under `torch.export`, `torch.jit.trace`, `torch.func` or forward-mode
            differentiation.
    """
    if under_export() or torch.jit.is_tracing() or under_torch_func() or carry_tangents(tensors):
        raise NotImplementedError(
            "tokens that are shared out to processes cannot be traced for export, differentiated in forward "
            "mode or by torch.func: whole inputs can; crosshead.shard_tokens(model, None) takes these again"
        )


def sum_over_ranks(x: Tensor, group: ProcessGroup) -> Tensor:
    """The sum of what all ranks give, on each of them; differentiable any number of times."""
    return _Sum.apply(x, group)  # pyright: ignore[reportReturnType]


def largest_over_ranks(x: Tensor, group: ProcessGroup) -> Tensor:
    """The largest of what all ranks give, number by number; a constant to autograd."""
    return _reduced(x.detach(), "max", group)


def gather(x: Tensor, group: ProcessGroup) -> Tensor:
    """What each rank gives, `(ranks, *x.shape)`; a constant to autograd."""
    gathered = [torch.empty_like(x) for _ in range(distributed.get_world_size(group))]
    with _in_one_line(group):
        distributed.all_gather(gathered, x.detach().contiguous(), group=group)
    return torch.stack(gathered)


def swap_rows(x: Tensor, group: ProcessGroup, *, give: Sequence[int], take: Sequence[int]) -> Tensor:
    """Rows of `x` for other ranks, in their order, against rows of theirs; differentiable.

    Args:
        x: `(sum(give), ...)`.
        group: the ranks.
        give: how many rows are for each rank.
        take: how many rows each rank has for this one.

    Returns:
        `(sum(take), ...)`.
    """
    return _Swap.apply(x, group, list(give), list(take))  # pyright: ignore[reportReturnType]


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: ProcessGroup) -> Tensor:
        ctx.group = group
        return _reduced(x, "sum", group)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return sum_over_ranks(grad, ctx.group), None


class _Swap(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: ProcessGroup, give: list[int], take: list[int]) -> Tensor:
        ctx.exchange = group, take, give
        with _in_one_line(group):
            return functional.wait_tensor(functional.all_to_all_single(x.contiguous(), take, give, group))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        return _Swap.apply(grad, *ctx.exchange), None, None, None  # pyright: ignore[reportReturnType]


def _reduced(x: Tensor, operation: str, group: ProcessGroup) -> Tensor:
    with _in_one_line(group):
        return functional.wait_tensor(functional.all_reduce(x.contiguous(), operation, group))


@contextmanager
def _in_one_line(group: ProcessGroup) -> Iterator[None]:
    """Says in one line what a collective that failed means: backends tell of sockets."""
    try:
        yield
    except RuntimeError as error:
        rank, ranks = distributed.get_rank(group), distributed.get_world_size(group)
        # Backends begin with a place in their source, and end with advice to their developers.
        told = re.sub(r"^\[\S+\] ", "", str(error)).split(". ")[0].splitlines()[:1]
        raise RuntimeError(
            f"rank {rank} of {ranks} waited in vain for the others, whose tokens it needs: one has failed, "
            "was called in another way, or outlasted the group's timeout; see what the others say "
            f"({told[0] if told else type(error).__name__})"
        ) from None

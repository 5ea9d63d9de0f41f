"""Sequence parallelism: the tokens of an image, a volume or a sequence shared out to the ranks of a group.

What joins tokens in interactive attention are its landmarks, and they are few. So each rank keeps its own
tokens, rows of the grid's first axis, and per layer the ranks exchange sums over landmarks alone, whose size
does not depend on how many tokens there are: see `crosshead.measure.traffic`.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, NoReturn, TypeVar

import torch
from torch import distributed, nn
from torch.distributed import DeviceMesh, ProcessGroup

from crosshead.attention.collectives import gather
from crosshead.attention.module import InteractiveAttention
from crosshead.attention.sharded_convolution import (
    Convolution,
    refuse_unless_rows_can_be_shared,
    share_rows,
)

Model = TypeVar("Model", bound=nn.Module)


def shard_tokens(model: Model, mesh: DeviceMesh | ProcessGroup | None) -> Model:
    """Lets every interactive attention in `model` take the tokens of one rank for a part of the whole.

    From then on a layer is called on each rank of the group with that rank's tokens and their grid: the ranks
    have, in their order, contiguous runs of rows of the grid's first axis, at least one row each (a sequence
    is its own first axis). Prefix tokens go to every rank. Each rank gets the outputs of its tokens, as one
    process would compute them from all. A context is shared out in the same way.

    Convolutions take and give rows of one rank, too, and fetch what they need of others. What else the model
    does must treat each token by itself, as linear layers and norms over channels do: learned positions must
    be those of the rank's rows, and a mean over all tokens is one over the rank's.

    The loss is the sum of the ranks' losses, and every rank calls `backward`. Gradients of tokens are then
    whole. Those of parameters and of prefix tokens, of which each rank has a copy, are the rank's part: their
    sum over the group is the gradient. DDP and FSDP take a mean over their ranks, so with these ranks among
    theirs the loss is multiplied by the size of this group. A loss of prefix outputs, which all ranks
    have, must be counted once: divided by the size, or on one rank.

    Args:
        model: an `InteractiveAttention` or what holds some. It is changed in place, and may be wrapped,
            compiled and checkpointed afterwards.
        mesh: a process group, or a mesh of one dimension, such as `mesh["tokens"]` of one with several; None
            for whole inputs again.

    Returns:
        The model.

    Raises:
        ValueError: if the mesh has several dimensions, this process is not in the group, or `model` holds no
            interactive attention.
        TypeError: if `mesh` is neither.
        NotImplementedError: if `model` holds a convolution whose rows cannot be shared out.

    Example:
        >>> shard_tokens(InteractiveAttention(8, 2, landmarks=(2, 2)), None).ranks is None
        True
    """
    ranks = None if mesh is None else Ranks(_group_of(mesh))
    layers = [layer for layer in model.modules() if isinstance(layer, InteractiveAttention)]
    if not layers:
        raise ValueError(
            f"model must hold an InteractiveAttention; got {type(model).__name__} without: another attention "
            "joins tokens in a way that cannot be shared out like this"
        )
    convolutions = [
        (name, module) for name, module in model.named_modules() if isinstance(module, Convolution)
    ]
    if ranks is not None:
        for name, convolution in convolutions:
            refuse_unless_rows_can_be_shared(name, convolution)
    for _, convolution in convolutions:
        share_rows(convolution, ranks)
    for layer in layers:
        layer.ranks = ranks
    return model


def own_rows(rows: int, mesh: DeviceMesh | ProcessGroup) -> slice:
    """Which of so many rows are this rank's, where all ranks get as many as possible alike.

    Args:
        rows: of the grid's first axis.
        mesh: as for `shard_tokens`.

    Returns:
        A slice of the first axis, of at least one row.

    Raises:
        ValueError: if there are fewer rows than ranks, or `shard_tokens` would refuse the mesh.
        TypeError: if `mesh` is neither a mesh nor a group.
    """
    ranks = Ranks(_group_of(mesh))
    if rows < ranks.size:
        raise ValueError(
            f"rows must be at least one for each of {ranks.size} ranks; got {rows}: take a smaller group"
        )
    bounds = [
        rows // ranks.size * rank + min(rank, rows % ranks.size) for rank in (ranks.rank, ranks.rank + 1)
    ]
    return slice(*bounds)


class Ranks:
    """Those that share the tokens.

    A copy of a layer shares with the same ranks; one that is saved and loaded again shares with none.
    """

    def __init__(self, group: ProcessGroup) -> None:
        self.group = group
        self.rank = distributed.get_rank(group)
        self.size = distributed.get_world_size(group)

    def __deepcopy__(self, memo: object) -> "Ranks":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()

    def agree(self, rows: tuple[int, int], facts: Mapping[str, object]) -> list[list[int]]:
        """The rows of every rank on both sides, after all have told the same of what must be alike.

        It is asked in every call: which rows other ranks have does not follow from one's own. The price is
        32 bytes from each rank.

        Raises:
            ValueError: on every rank, if one has refused or tells something else.
        """
        told = [f"{name}={value}" for name, value in facts.items()]
        digest = int.from_bytes(hashlib.blake2b(repr(told).encode(), digest_size=7).digest())
        table = self._table(0, digest, *rows)
        if any(refused for refused, *_ in table) or len({digest for _, digest, *_ in table}) > 1:
            self._complain(table, told)
        return [[row[side] for row in table] for side in (2, 3)]

    def refuse(self, error: Exception) -> NoReturn:
        """Tells the other ranks, which wait in `agree`, why this one takes no part, and raises the error."""
        self._table(1, 0, 0, 0)
        self._texts(str(error))
        raise error

    def _table(self, *numbers: int) -> list[list[int]]:
        return gather(torch.tensor(numbers, device=self._device()), self.group).tolist()

    def _texts(self, own: str | list[str]) -> list[Any]:
        texts: list[Any] = [None] * self.size
        distributed.all_gather_object(texts, own, group=self.group)
        return texts

    def _complain(self, table: list[list[int]], told: list[str]) -> NoReturn:
        texts = self._texts(told)
        for rank, (refused, *_) in enumerate(table):
            if refused:
                raise ValueError(f"rank {rank} of {self.size} refused its tokens: {texts[rank]}")
        other = next(rank for rank, text in enumerate(texts) if text != texts[0])
        here, there = (", ".join(sorted(set(texts[a]) - set(texts[b]))) for a, b in ((0, other), (other, 0)))
        raise ValueError(
            f"ranks must have rows of one grid and call one layer; got on rank 0 {here}, on rank {other} "
            f"{there}: split the first axis of the grid alone, and give each rank the same otherwise"
        )

    def _device(self) -> torch.device | None:
        """Where numbers are told: on the CPU if the group can, and else on the accelerator."""
        on_cpu = "cpu:" in distributed.get_backend_config(self.group)
        return torch.device("cpu") if on_cpu else torch.accelerator.current_accelerator()


def _group_of(mesh: DeviceMesh | ProcessGroup) -> ProcessGroup:
    if isinstance(mesh, DeviceMesh):
        if mesh.ndim != 1:
            raise ValueError(
                f"mesh must have one dimension; got {mesh.ndim}, {mesh.mesh_dim_names}: name the one that "
                'shares the tokens, such as mesh["tokens"]'
            )
        mesh = mesh.get_group()
    if mesh is distributed.GroupMember.NON_GROUP_MEMBER:
        raise ValueError(
            "mesh must be a group that this process is in; got one of others: shard the model on the ranks "
            "of the group alone"
        )
    if not isinstance(mesh, ProcessGroup):
        raise TypeError(
            f"mesh must be a ProcessGroup or a DeviceMesh; got {type(mesh).__name__}: "
            "torch.distributed.init_process_group() starts one, torch.distributed.group.WORLD is it"
        )
    return mesh

"""Run by `test_sequence_parallel.py`: forks groups of ranks, each of which has a part of the tokens.

    python sharded_ranks.py FOLDER      FOLDER is where the ranks find each other

Prints a line of JSON for each result: how many ranks, the case, and what came out. torch is imported once, and
no gradient is computed before a fork.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import accumulate
from math import prod
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed
from torch.utils.checkpoint import checkpoint

from crosshead import InteractiveAttention, own_rows, shard_tokens
from crosshead.measure.budgets import assert_within_budget

SIZES = (2, 3, 4)
DIM, HEADS, BATCH = 16, 4, 3
IMPLEMENTATIONS = ("reference", "streamed")
Results = dict[str, Tensor]


class Case(NamedTuple):
    """One call of a layer; a mask is named by how much of it is valid."""

    grid: tuple[int, ...]
    landmarks: int | tuple[int, ...]
    layer: dict[str, Any] = {}
    context_grid: tuple[int, ...] | None = None
    mask: float | None = None
    context_mask: float | None = None


CASES = {
    **{
        f"mixing {mixing}": Case((7, 5), (3, 2), {"mixing": mixing})
        for mixing in ("none", "logits", "weights", "both")
    },
    "groups of heads": Case((7, 5), (3, 2), {"mixing_group_size": 2}),
    "prefix tokens": Case((6, 4), (3, 2), {"num_prefix_tokens": 2}),
    "normed queries and keys": Case((7, 3), (2, 3), {"qk_norm": True}),
    "a cell for each token": Case((5, 3), (9, 9)),
    "one landmark": Case((5, 3), (1, 1), {"num_prefix_tokens": 1}),
    "masked grid": Case((7, 5), (3, 2), {"num_prefix_tokens": 2}, mask=0.4),
    "nearly empty grid": Case((7, 5), (3, 2), mask=0.08),
    "sequence": Case((13,), (4,), {"num_prefix_tokens": 1}),
    "masked sequence": Case((13,), (5,), {"num_prefix_tokens": 1}, mask=0.6),
    "nearly empty sequence": Case((13,), (5,), mask=0.15),
    "volume": Case((5, 3, 2), (2, 2, 2)),
    "masked volume": Case((5, 3, 2), (2, 2, 2), {"num_prefix_tokens": 1}, mask=0.5),
    "context": Case((7, 5), (3, 2), {"num_prefix_tokens": 1}, context_grid=(5, 4)),
    "masked context": Case((7, 5), (3, 2), {"num_prefix_tokens": 1}, (5, 4), mask=0.5, context_mask=0.5),
    "context masked alone": Case((6, 5), (3, 2), {}, (5, 4), context_mask=0.4),
    "masked sequence of context": Case((9,), (4,), {"num_prefix_tokens": 1}, (11,), context_mask=0.4),
    "local term": Case((7, 5), (3, 2), {"local_kernel": 3, "num_prefix_tokens": 1}, mask=0.7),
    "local term wider than a rank": Case((7, 5), (3, 2), {"local_kernel": 7}),
    "local term of a sequence": Case((11,), (3,), {"local_kernel": 5}),
    "local term of a volume": Case((5, 3, 2), (2, 2, 2), {"local_kernel": 3}),
}


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make_layer(case: Case, **options: Any) -> InteractiveAttention:
    torch.manual_seed(0)
    layer = InteractiveAttention(DIM, HEADS, landmarks=case.landmarks, **case.layer, **options).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return layer


def rows_of(rows: int, ranks: int) -> list[int]:
    """An uneven share for each: the first has one row, and the last what is left."""
    shares = [1] * ranks
    for i in range(rows - ranks):
        shares[-1 - i % max(1, ranks - 1 - (ranks > 2))] += 1
    return shares


def inputs_of(case: Case) -> dict[str, Tensor]:
    prefix, given = case.layer.get("num_prefix_tokens", 0), {}
    sides = (
        ("x", "key_mask", case.grid, case.mask),
        ("context", "context_mask", case.context_grid, case.context_mask),
    )
    for seed, (name, mask, grid, valid) in enumerate(sides):
        if grid is None:
            continue
        tokens = prefix + prod(grid)
        given[name] = draw(BATCH, tokens, DIM, seed=seed)
        if valid is not None:
            given[mask] = torch.rand(BATCH, tokens, generator=torch.Generator().manual_seed(7 + seed)) < valid
            given[mask][-1] = False  # nothing of the last sample takes part
            given[name][~given[mask]] = torch.nan
    given["cotangent"] = draw(BATCH, prefix + prod(case.grid), DIM, seed=5)
    return given


def of_rank(x: Tensor, grid: tuple[int, ...], prefix: int, rows: list[int], rank: int) -> Tensor:
    row = prod(grid[1:])
    end = prefix + row * list(accumulate(rows))[rank]
    return torch.cat([x[:, :prefix], x[:, end - row * rows[rank] : end]], dim=1)


def outcome(
    layer: Callable[..., Tensor], parameters: dict[str, Tensor], given: dict[str, Tensor], **grids: Any
) -> Results:
    """The output and every gradient, of tokens and parameters."""
    given = dict(given)
    cotangent = given.pop("cotangent")
    leaves = {name: x.clone().requires_grad_() for name, x in given.items() if x.is_floating_point()}
    output = layer(**{**given, **leaves}, **grids)
    output.backward(cotangent)
    results = {"output": output.detach(), **{f"grad {name}": x.grad for name, x in leaves.items()}}
    for name, parameter in parameters.items():
        results[f"grad {name}"] = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        parameter.grad = None
    return {name: x for name, x in results.items() if x is not None}


def whole(case: Case, layer: InteractiveAttention, given: dict[str, Tensor]) -> Results:
    grids = {"grid": case.grid} | ({"context_grid": case.context_grid} if case.context_grid else {})
    return outcome(layer, dict(layer.named_parameters()), given, **grids)


def shared(
    case: Case, layer: Any, given: dict[str, Tensor], *, parameters: dict[str, Tensor] | None = None
) -> Results:
    """The same by this rank, put together on all of them."""
    rank, size = distributed.get_rank(), distributed.get_world_size()
    prefix = case.layer.get("num_prefix_tokens", 0)
    grids = {"x": case.grid, "key_mask": case.grid, "cotangent": case.grid}
    grids |= {"context": case.context_grid, "context_mask": case.context_grid}
    own, shapes = {}, {}
    for name, x in given.items():
        grid = grids[name]
        rows = rows_of(grid[0], size)
        own[name] = of_rank(x, grid, prefix, rows, rank)
        shapes["context_grid" if name.startswith("context") else "grid"] = (rows[rank], *grid[1:])
    own["cotangent"][:, :prefix] /= size  # every rank has the outputs of prefix tokens: count them once
    parts: list[Any] = [None] * size
    parameters = dict(layer.named_parameters()) if parameters is None else parameters
    distributed.all_gather_object(parts, outcome(layer, parameters, own, **shapes))
    together = {}
    for name in parts[0]:
        each = [part[name].double() for part in parts]
        if name in ("output", "grad x", "grad context"):
            copies = torch.stack([part[:, :prefix] for part in each])
            of_prefix = copies[0] if name == "output" else copies.sum(0)
            together[name] = torch.cat([of_prefix, *(part[:, prefix:] for part in each)], dim=1)
        else:
            together[name] = torch.stack(each).sum(0)
        together[name] = together[name].to(parts[0][name].dtype)
    return together


def largest_difference(one: Results, other: Results) -> float:
    assert one.keys() == other.keys()
    return max((one[name] - other[name]).abs().max().item() for name in one)


def equality() -> Iterator[tuple[str, Any]]:
    for name, case in CASES.items():
        if case.grid[0] < distributed.get_world_size():
            continue
        for impl in IMPLEMENTATIONS:
            layer, given = make_layer(case, impl=impl), inputs_of(case)
            expected = whole(case, layer, given)
            actual = shared(case, shard_tokens(layer, distributed.group.WORLD), given)
            yield f"equal: {name}, {impl}", largest_difference(actual, expected)


def run(rank: int, size: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = distributed.FileStore(f"{folder}/{size}", size)
    distributed.init_process_group(
        "gloo", store=store, rank=rank, world_size=size, timeout=timedelta(seconds=60)
    )
    for part in PARTS:
        for name, result in part():
            if rank == 0:
                print(json.dumps([size, name, result]), flush=True)
    distributed.destroy_process_group()


PARTS = [equality]


def main(folder: str) -> None:
    for size in SIZES:
        ranks = [get_context("fork").Process(target=run, args=(rank, size, folder)) for rank in range(size)]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join()


if __name__ == "__main__":
    main(sys.argv[1])

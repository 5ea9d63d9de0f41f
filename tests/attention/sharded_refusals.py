"""What ranks refuse together, and what they say when one of them is lost, for `sharded_ranks.py`."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from sharded_cases import DIM, IMPLEMENTATIONS, Case, Stack, draw, inputs_of, make_layer, of_rank, tell
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh

from crosshead import InteractiveAttention, own_rows, shard_tokens


def refusals() -> Iterator[tuple[str, Any]]:
    """What each rank says to tokens of rank 1 that do not fit, and that the group works afterwards."""
    rank, size, world = distributed.get_rank(), distributed.get_world_size(), distributed.group.WORLD
    assert world is not None
    layer = shard_tokens(make_layer(Case((8, 5), (3, 2))), world)
    x = draw(2, 10, DIM, seed=0)
    wrong: dict[str, dict[str, Any]] = {
        "other columns": {"x": x[:, :8], "grid": (2, 4)},
        "another batch": {"x": x[:1]},
        "another dtype": {"x": x.float()},
        "a grid that does not fit": {"grid": (3, 5)},
        "no tensor": {"x": x.tolist()},
        "a mask on one rank": {"key_mask": torch.ones(2, 10, dtype=torch.bool)},
        "a mask of another shape": {"key_mask": torch.ones(2, 9, dtype=torch.bool)},
        "a sequence": {"grid": (10,)},
    }
    for name, changes in wrong.items():
        said: list[Any] = [None] * size
        try:
            layer(**{"x": x, "grid": (2, 5), **(changes if rank == 1 else {})})
            own = "nothing"
        except (TypeError, ValueError) as error:
            own = f"{type(error).__name__}: {error}"
        distributed.all_gather_object(said, own)
        yield f"refused: {name}", said
    others = shard_tokens(make_layer(Case((8, 5), (3, 2)), impl=IMPLEMENTATIONS[rank % 2]), world)
    of_last: Any = distributed.new_group([size - 1])
    calls: dict[str, Callable[[], object]] = {
        "other implementations": lambda: others(x, grid=(2, 5)),
        "fused": lambda: shard_tokens(make_layer(Case((8, 5), (3, 2)), impl="fused"), world)(x, grid=(2, 5)),
        "a second derivative": lambda: torch.autograd.grad(
            layer(x, grid=(2, 5)).sum(), list(layer.parameters()), create_graph=True
        ),
        "torch.func": lambda: torch.func.jvp(lambda x: layer(x, grid=(2, 5)), (x,), (x,)),
        "looking inside": lambda: look_inside(layer, x),
        "a mesh of two dimensions": lambda: shard_tokens(layer, init_device_mesh("cpu", (1, size))),
        "a group of others": lambda: shard_tokens(others, of_last),
        "no group": lambda: shard_tokens(layer, "tokens"),  # pyright: ignore[reportArgumentType]
        "a model without": lambda: shard_tokens(nn.Linear(2, 2), world),
        "a lopsided convolution": lambda: shard_tokens(
            nn.Sequential(nn.Conv2d(3, 8, 4, padding=1), layer), world
        ),
        "patches cut through": lambda: rows_into(nn.Conv2d(3, 8, 4, stride=4), 6),
        "no rows left": lambda: rows_into(nn.Conv2d(3, 8, 3, stride=2, padding=1), 1),
        "too few rows": lambda: own_rows(size - 1, world),
    }
    for name, call in calls.items():
        try:
            call()
            yield f"refused: {name}", "nothing"
        except Exception as error:
            yield f"refused: {name}", f"{type(error).__name__}: {error}"
    yield "works afterwards", layer(x, grid=(2, 5)).isfinite().all().item()


def rows_into(convolution: nn.Conv2d, rows: int) -> None:
    model = nn.ModuleList([convolution, make_layer(Case((8, 5), (3, 2)))])
    shard_tokens(model, distributed.group.WORLD)
    convolution(torch.zeros(1, 3, rows, 8))


def look_inside(layer: InteractiveAttention, x: Tensor) -> None:
    layer._observers = (lambda *seen: None,)
    try:
        layer(x, grid=(2, 5))
    finally:
        del layer._observers


def fail(rank: int, kind: str) -> None:
    """Rank 1 of 3 is lost in the second of two layers; the others say so."""
    case = Case((6, 5), (3, 2))
    stack, given = shard_tokens(Stack(case), distributed.group.WORLD), inputs_of(case)
    began = time.monotonic()
    if rank == 1:
        stack.layers[1].register_forward_pre_hook(partial(lose, kind))
    try:
        stack(of_rank(given["x"], case.grid, 0, [2, 2, 2], rank), grid=(2, 5))
    except RuntimeError as error:
        if rank != 1:
            tell(3, f"lost: {kind}, rank {rank}", [str(error), time.monotonic() - began])
        sys.exit(1)


def lose(kind: str, *_: object) -> None:
    if kind == "it fails":
        raise RuntimeError("out of memory")
    if kind == "it is killed":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(30)

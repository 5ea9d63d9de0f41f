"""Run by `test_sequence_parallel.py`: forks groups of ranks, each of which has a part of the tokens.

    python sharded_ranks.py FOLDER      FOLDER is where the ranks find each other

Prints a line of JSON for each result: how many ranks, the case, and what came out. torch is imported once; no
gradient is computed before a fork.
"""

import io
import json
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from datetime import timedelta
from multiprocessing import get_context
from typing import Any

import torch
from sharded_cases import (
    CASES,
    DIM,
    IMPLEMENTATIONS,
    Case,
    Results,
    Stack,
    draw,
    inputs_of,
    largest_difference,
    make_layer,
    of_rank,
    penalty,
    rows_of,
    shared,
    whole,
)
from sharded_refusals import fail, refusals
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from crosshead import interactive_attention, own_rows, shard_tokens
from crosshead.attention.impl.fused.cpu import build
from crosshead.measure.budgets import assert_within_budget
from crosshead.testing.collectives import CountedCollectives
from crosshead.testing.inputs import MASK_NAMES, OperatorInputs, output_and_gradients
from crosshead.testing.kernel import Yardstick, draw_inputs


def equality() -> Iterator[tuple[str, Any]]:
    for name, case in CASES.items():
        if case.grid[0] < distributed.get_world_size():
            continue
        for impl in IMPLEMENTATIONS:
            layer, given = make_layer(case, impl=impl), inputs_of(case)
            expected = whole(case, layer, given)
            actual = shared(case, shard_tokens(layer, distributed.group.WORLD), given)
            yield f"equal: {name}, {impl}", largest_difference(actual, expected)


def tools() -> Iterator[tuple[str, Any]]:
    """What is done to layers and models."""
    case = Case((7, 5), (3, 2), {"num_prefix_tokens": 2}, mask=0.6)
    given, world = inputs_of(case), distributed.group.WORLD
    given["x"].nan_to_num_()  # what the residual path hands on is not masked
    expected = whole(case, Stack(case), given)
    for name, checkpointed in (
        ("two layers", None),
        ("checkpointed", False),
        ("checkpointed, reentrant", True),
    ):
        stack = shard_tokens(Stack(case, checkpointed=checkpointed), world)
        yield f"equal: {name}", largest_difference(shared(case, stack, given), expected)
    plain = Case((7, 5), (3, 2))
    given, layer = inputs_of(plain), make_layer(plain, impl="reference")
    expected = whole(plain, layer, given, compute=penalty)
    actual = shared(plain, shard_tokens(layer, world), given, compute=penalty)
    yield "equal: gradient of a gradient", largest_difference(actual, expected)

    layer, copy = make_layer(plain), make_layer(plain)
    shard_tokens(layer, world)
    buffer = io.BytesIO()
    torch.save(layer, buffer)
    buffer.seek(0)
    copy = deepcopy(layer)
    yield "a copy shares with the same ranks", copy.ranks is layer.ranks is not None
    yield "a saved layer takes whole inputs", torch.load(buffer, weights_only=False).ranks is None
    given, expected = inputs_of(plain), whole(plain, make_layer(plain), inputs_of(plain))
    yield (
        "equal: whole inputs again",
        largest_difference(whole(plain, shard_tokens(layer, None), given), expected),
    )


def compiled() -> Iterator[tuple[str, Any]]:
    """Compiling stops where ranks exchange, and goes on behind it."""
    case = Case((7, 5), (3, 2), {"num_prefix_tokens": 2}, mask=0.6)
    given = {name: x.float() if x.is_floating_point() else x for name, x in inputs_of(case).items()}
    layer = shard_tokens(make_layer(case).float(), distributed.group.WORLD)
    call = torch.compile(layer, backend="aot_eager")
    yield (
        "close: compiled",
        largest_difference(shared(case, layer, given, call=call), shared(case, layer, given)),
    )


def budgets() -> Iterator[tuple[str, Any]]:
    """Layers and the operator in lower precision; empty where all is inside."""
    case = Case((7, 5), (3, 2), {"num_prefix_tokens": 2}, mask=0.6)
    ready = [torch.float32, torch.bfloat16] if build.missing() is None else []
    for impl, dtypes in (("streamed", [torch.float32, torch.bfloat16, torch.float16]), ("fused", ready)):
        for dtype in dtypes:
            if dtype != torch.float16:
                yield f"budget: layer, {impl}, {dtype}", outside_budget(case, impl, dtype)
            for masks in ((), MASK_NAMES):
                for group_size in (None, 2):
                    draws = draw_inputs(
                        heads=4,
                        queries=39,
                        keys=35,
                        landmarks=8,
                        head_dim=16,
                        group_size=group_size,
                        masks=masks,
                        dtype=dtype,
                    )
                    name = f"budget: {impl}, {dtype}, groups of {group_size}, {len(masks)} masks"
                    yield name, outside_yardstick(draws, impl)


def outside_yardstick(draws: list[OperatorInputs], impl: str) -> str:
    """What the criterion for kernels says of the operator, its tokens shared out."""
    group, ranks = distributed.group.WORLD, distributed.get_world_size()

    def attend(query: Tensor, key: Tensor, value: Tensor, **given: Any) -> Tensor:
        mine, looked_at = share_of(query), share_of(key)
        for name, own in (("query_mask", mine), ("key_mask", looked_at)):
            if name in given:
                given[name] = given[name][:, own]
        q, k, v = query[:, :, mine], key[:, :, looked_at], value[:, :, looked_at]
        y = interactive_attention(q, k, v, **given, impl=impl, process_group=group)  # pyright: ignore
        # The outputs of all ranks, of which each answers for its own.
        whole = torch.zeros(*query.shape[:3], value.shape[3], dtype=torch.float64)
        whole[:, :, mine] = y.detach().double()
        distributed.all_reduce(whole)
        whole = whole.to(y.dtype)
        return torch.cat([whole[:, :, : mine.start], y, whole[:, :, mine.stop :]], dim=2)

    def share_of(x: Tensor) -> slice:
        rows = rows_of(x.shape[2], ranks)
        end = sum(rows[: distributed.get_rank() + 1])
        return slice(end - rows[distributed.get_rank()], end)

    results = [output_and_gradients(attend, inputs) for inputs in draws]
    actual = {}
    for name, x in results[0].items():
        actual[name] = torch.cat([result[name].flatten() for result in results])
        if name != "output":
            total = actual[name].double()
            distributed.all_reduce(total)
            actual[name] = total.to(x.dtype)
    try:
        Yardstick(draws).assert_within(actual)
    except AssertionError as error:
        return str(error) or "another dtype"
    return ""


def outside_budget(case: Case, impl: str, dtype: torch.dtype) -> str:
    """What is further from float64 than plain arithmetic in four orders allows; empty if all is well."""
    given = {name: x.to(dtype) if x.is_floating_point() else x for name, x in inputs_of(case).items()}
    layer = make_layer(case, impl=impl).to(dtype)
    plain = make_layer(case, impl="reference").to(dtype)
    exact = deepcopy(plain).double()
    wide = {name: x.double() if x.is_floating_point() else x for name, x in given.items()}
    references = [turned(case, plain, given, axes) for axes in ((), (1,), (2,), (1, 2))]
    try:
        assert_within_budget(
            shared(case, shard_tokens(layer, distributed.group.WORLD), given),
            exact=whole(case, exact, wide),
            reference=references,
        )
    except AssertionError as error:
        return str(error)
    return ""


def turned(case: Case, layer: Any, given: dict[str, Tensor], axes: tuple[int, ...]) -> Results:
    """The same result by another order of sums: rows or columns go in back to front, and come out again."""
    prefix = case.layer["num_prefix_tokens"]

    def turn(x: Tensor) -> Tensor:
        body = x[:, prefix:].unflatten(1, case.grid).flip(axes).flatten(1, 2)
        return torch.cat([x[:, :prefix], body], dim=1)

    results = whole(case, layer, {name: turn(x) for name, x in given.items()})
    return {name: turn(x) if name in ("output", "grad x") else x for name, x in results.items()}


def meshes() -> Iterator[tuple[str, Any]]:
    """Data times tokens on four ranks: each half of the batch is shared out to two of them."""
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tokens"))
    case = Case((7, 5), (3, 2), {"num_prefix_tokens": 1})
    x, layer = draw(4, 36, DIM, seed=0), make_layer(case)
    layer(x, grid=case.grid).square().mean().backward()
    expected: dict[str, Any] = {name: parameter.grad for name, parameter in layer.named_parameters()}

    halves, size = x.chunk(2), mesh["tokens"].size()
    half, rows = halves[mesh.get_local_rank("data")], own_rows(7, mesh["tokens"])
    own = torch.cat([half[:, :1], half[:, 1:].unflatten(1, case.grid)[:, rows].flatten(1, 2)], dim=1)
    for way in ("ddp", "fsdp"):
        layer = shard_tokens(make_layer(case), mesh["tokens"])
        if way == "ddp":
            model: Any = nn.parallel.DistributedDataParallel(layer)
        else:
            model = fully_shard(layer, mesh=init_device_mesh("cpu", (4,)))
        y = model(own, grid=(rows.stop - rows.start, 5))
        # A mean over the half: what all ranks have is counted once, and DDP's mean over ranks made a sum.
        loss = (y[:, 1:].square().sum() + y[:, :1].square().sum() / size) / half.numel() * size
        loss.backward()
        gradients: dict[str, Any] = {name: parameter.grad for name, parameter in layer.named_parameters()}
        if way == "fsdp":
            gradients = {name: grad.full_tensor() for name, grad in gradients.items()}
        differences = [(gradients[name] - grad).abs().max().item() for name, grad in expected.items()]
        yield f"equal: {way} over data and tokens", max(differences)


def traffic() -> Iterator[tuple[str, Any]]:
    """Forward and backward of one layer at two sizes of the grid, counted."""
    size, rank = distributed.get_world_size(), distributed.get_rank()
    for name, axes, layer, valid in (
        ("grid", 2, {"num_prefix_tokens": 1}, None),
        ("masked grid", 2, {}, 0.5),
        ("masked sequence", 1, {}, 0.5),
        ("local term", 2, {"local_kernel": 3}, None),
    ):
        for rows in (8, 64):
            case = Case((rows, 6)[:axes], (3, 2)[:axes], layer, mask=valid)
            module = shard_tokens(make_layer(case).float(), distributed.group.WORLD)
            given = {name: x.float() if x.is_floating_point() else x for name, x in inputs_of(case).items()}
            mine = rows_of(rows, size)
            own = {
                name: of_rank(x, case.grid, layer.get("num_prefix_tokens", 0), mine, rank)
                for name, x in given.items()
            }
            cotangent = own.pop("cotangent")
            with CountedCollectives() as forward:
                y = module(**own, grid=(mine[rank], *case.grid[1:]))
            with CountedCollectives() as backward:
                y.backward(cotangent)
            yield (
                f"traffic: {name}, {rows} rows",
                [dict(c) for c in (forward.calls, forward.bytes, backward.calls, backward.bytes)],
            )


PARTS = {2: (equality, traffic, compiled), 3: (equality, tools, budgets, refusals), 4: (equality, meshes)}
LOSSES = ("it fails", "it is killed", "it hangs")


def work(rank: int, size: int, folder: str) -> None:
    start(rank, size, f"{folder}/{size}")
    for part in PARTS[size]:
        for name, result in part():
            if rank == 0:
                print(json.dumps([size, name, result]), flush=True)
    distributed.destroy_process_group()


def be_lost(rank: int, size: int, folder: str, kind: str) -> None:
    start(rank, size, f"{folder}/{kind}", seconds=3)
    fail(rank, kind)


def start(rank: int, size: int, file: str, *, seconds: float = 60) -> None:
    torch.set_num_threads(1)
    store, timeout = distributed.FileStore(file, size), timedelta(seconds=seconds)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=timeout)


def main(folder: str) -> None:
    for size in PARTS:
        for process in forked(work, size, folder):
            process.join()
    for kind in LOSSES:
        first, lost, last = forked(be_lost, 3, folder, kind)
        first.join()
        last.join()
        lost.kill()


def forked(function: Callable[..., None], size: int, *arguments: str) -> list[Any]:
    ranks = [
        get_context("fork").Process(target=function, args=(rank, size, *arguments)) for rank in range(size)
    ]
    for process in ranks:
        process.start()
    return ranks


if __name__ == "__main__":
    main(sys.argv[1])

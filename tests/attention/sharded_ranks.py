"""Run by `test_sequence_parallel.py`: forks groups of ranks, each of which has a part of the tokens.

    python sharded_ranks.py FOLDER      FOLDER is where the ranks find each other

Prints a line of JSON for each result: how many ranks, the case, and what came out. torch is imported once; no
gradient is computed before a fork.
"""

import io
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from datetime import timedelta
from multiprocessing import get_context
from typing import Any

import timm
import torch
from sharded_cases import (
    CASES,
    DIM,
    HEADS,
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
    tell,
    whole,
)
from sharded_refusals import fail, refusals
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import crosshead.vision  # noqa: F401  registers iViT with timm
from crosshead import InteractiveAttention, interactive_attention, own_rows, shard_tokens
from crosshead.attention.impl.fused.cpu import build
from crosshead.measure.budgets import assert_within_budget
from crosshead.testing.collectives import CountedCollectives
from crosshead.testing.inputs import MASK_NAMES, OperatorInputs, output_and_gradients
from crosshead.testing.kernel import Yardstick, draw_inputs


def equality() -> Iterator[tuple[str, Any]]:
    for name, case in CASES.items():
        for impl in IMPLEMENTATIONS if distributed.get_world_size() == 3 else ("streamed",):
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
    call = torch.compile(layer, backend="eager")
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


BACKBONE = {
    "depths": (1, 1, 1, 1),
    "dims": (8, 16, 16, 16),
    "head_dim": 8,
    "kernel_size": 5,
    "attention_stages": (1, 2),
    "landmarks": (2, 2, 2, 1),
}


def make_backbone(stem: str) -> nn.Module:
    torch.manual_seed(0)
    if stem == "patches":
        layer = InteractiveAttention(DIM, HEADS, landmarks=(3, 2), local_kernel=3)
        return nn.ModuleDict({"patches": nn.Conv2d(3, DIM, 4, stride=4), "attention": layer}).double()
    model = timm.create_model("ivit_nano", num_classes=0, **BACKBONE, stem_stride=int(stem[-1])).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def features(model: Any, image: Tensor) -> Tensor:
    if not isinstance(model, nn.ModuleDict):
        return model.forward_features(image)
    x = model["patches"](image)
    return model["attention"](x.flatten(2).mT, grid=x.shape[2:]).mT.unflatten(2, x.shape[2:])


def backbones() -> Iterator[tuple[str, Any]]:
    """Images shared out by rows, through convolutions of any stride."""
    rank, size = distributed.get_rank(), distributed.get_world_size()
    for stem, height, unit in (
        ("a stem of stride 1", 37, 1),
        ("a stem of stride 4", 131, 1),
        ("patches", 36, 4),
    ):
        image, model = draw(2, 3, height, 21, seed=0), make_backbone(stem)
        x = image.clone().requires_grad_()
        y = features(model, x)
        cotangent = draw(*y.shape, seed=1)
        y.backward(cotangent)
        expected: dict[str, Any] = {"output": y.detach(), "grad x": x.grad} | {
            n: p.grad for n, p in model.named_parameters()
        }

        model = shard_tokens(make_backbone(stem), distributed.group.WORLD)
        # Each rank has a bit more than the one before, and the last what is left.
        rows = [unit * (height // unit // size - 1 + i) for i in range(size)]
        rows[-1] = height - sum(rows[:-1])
        end = sum(rows[: rank + 1])
        x = image[:, :, end - rows[rank] : end].clone().requires_grad_()
        y = features(model, x)
        parts: list[Any] = [None] * size
        distributed.all_gather_object(parts, y.detach())
        before = sum(part.shape[2] for part in parts[:rank])
        y.backward(cotangent[:, :, before : before + y.shape[2]])
        grads: list[Any] = [None] * size
        distributed.all_gather_object(grads, (x.grad, {n: p.grad for n, p in model.named_parameters()}))
        actual = {"output": torch.cat(parts, 2), "grad x": torch.cat([grad for grad, _ in grads], 2)}
        actual |= {name: torch.stack([each[name] for _, each in grads]).sum(0) for name in grads[0][1]}
        yield f"equal: backbone, {stem}", largest_difference(actual, expected)
        if size == 2 and stem == "a stem of stride 1":
            again = features(shard_tokens(model, None), image).detach()
            yield "equal: backbone of whole images again", (again - expected["output"]).abs().max().item()


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


PARTS = {
    2: (equality, backbones, traffic, compiled),
    3: (equality, backbones, tools, budgets, refusals),
    4: (equality, backbones, meshes),
}
LOSSES = ("it fails", "it is killed", "it hangs")


def work(rank: int, size: int, folder: str) -> None:
    start(rank, size, f"{folder}/{size}")
    for part in PARTS[size]:
        for name, result in part():
            if rank == 0:
                tell(size, name, result)
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

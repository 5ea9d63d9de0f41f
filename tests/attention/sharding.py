"""Run by `test_module_tools.py` once for each of two processes: the layer with its parameters shared out.

    python sharding.py RANK FILE      FILE is where the two find each other

Prints one line for each way of sharing: its name, and by how much outputs and gradients differ from those
of the whole layer, or the error.
"""

import sys
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, distributed

from crosshead import InteractiveAttention

X = torch.randn(2, 12, 8, generator=torch.Generator().manual_seed(1))
SELF = {"grid": (3, 4)}
CROSS = {"grid": (3, 4), "context": X.flip(1), "context_grid": (4, 3)}


def make_layer(**options) -> InteractiveAttention:
    torch.manual_seed(0)
    layer = InteractiveAttention(8, 2, landmarks=(2, 2), **options)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return layer


def whole(call: dict, **options) -> list[Tensor]:
    layer = make_layer(**options)
    y = layer(X, **call)
    return [y, *torch.autograd.grad(y.square().mean(), list(layer.parameters()))]


def fully_sharded_data_parallel(call: dict, **options) -> list[Tensor]:
    """Each submodule with parameters is a unit of FSDP's first form."""
    from torch.distributed.fsdp import FullyShardedDataParallel
    from torch.distributed.fsdp.wrap import always_wrap_policy

    layer = FullyShardedDataParallel(
        make_layer(**options),
        auto_wrap_policy=always_wrap_policy,
        device_id=torch.device("cpu"),
        use_orig_params=True,
    )
    y = layer(X, **call)
    y.square().mean().backward()
    with FullyShardedDataParallel.summon_full_params(layer, with_grads=True):
        return [y, *(parameter.grad.clone() for parameter in layer.parameters())]  # pyright: ignore[reportOptionalMemberAccess]


def fully_shard(call: dict, **options) -> list[Tensor]:
    """Each submodule with parameters is a unit of FSDP's second form."""
    from torch.distributed import fsdp
    from torch.distributed.device_mesh import init_device_mesh

    layer, mesh = make_layer(**options), init_device_mesh("cpu", (2,))
    for module in reversed(list(layer.modules())):
        if module is layer or next(module.parameters(recurse=False), None) is not None:
            fsdp.fully_shard(module, mesh=mesh, reshard_after_forward=True)
    y = layer(X, **call)
    y.square().mean().backward()
    return [y, *(parameter.grad.full_tensor() for parameter in layer.parameters())]  # pyright: ignore


def tensor_parallel(call: dict, *, gathered: bool = True, **options) -> list[Tensor]:
    """The projections share out their outputs; `gathered` brings these together again."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Replicate, Shard
    from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module

    layer = make_layer(**options)
    style = ColwiseParallel(output_layouts=Replicate() if gathered else Shard(-1))
    parallelize_module(layer, init_device_mesh("cpu", (2,)), {"qkv": style, "proj": style})
    y = layer(X, **call)
    y.square().mean().backward()
    gradients = [parameter.grad for parameter in layer.parameters()]
    return [y, *(g.full_tensor() if isinstance(g, DTensor) else g for g in gradients)]  # pyright: ignore


def lines() -> Iterator[str]:
    ways: list[Callable] = [fully_sharded_data_parallel, fully_shard, tensor_parallel]
    for way in ways:
        for name, call, options in (("self", SELF, {"local_kernel": 3}), ("cross", CROSS, {"qk_norm": True})):
            pairs = zip(way(call, **options), whole(call, **options), strict=True)
            yield f"{way.__name__} {name} {max((a - b).abs().max().item() for a, b in pairs)}"
    for name, call in (("self", SELF), ("cross", CROSS)):
        try:
            tensor_parallel(call, gathered=False)
        except ValueError as error:
            yield f"in parts {name} {error}"


if __name__ == "__main__":
    torch.set_num_threads(1)
    store = distributed.FileStore(sys.argv[2], 2)
    distributed.init_process_group("gloo", store=store, rank=int(sys.argv[1]), world_size=2)
    for line in lines():
        print(line, flush=True)
    distributed.destroy_process_group()

"""Layers in which nothing is zero or one, their inputs, and their maps by the oracle."""

from collections.abc import Callable
from math import prod
from typing import Any

import pytest
import torch

from crosshead import InteractiveAttention
from crosshead.explain.call import LayerCall
from crosshead.explain.record import record
from crosshead.testing import dense_layer as oracle

# By what is special about them: what the layer is built with, the grids of both sides, what is masked.
CASES: dict[str, dict[str, Any]] = {
    "image": {"grid": (5, 7)},
    "sequence": {"landmarks": (3,), "grid": (10,)},
    "volume": {"landmarks": (2, 1, 2), "grid": (3, 4, 3)},
    "no mixing": {"mixing": "none", "grid": (5, 7)},
    "logits": {"mixing": "logits", "grid": (5, 7)},
    "weights": {"mixing": "weights", "grid": (5, 7)},
    "groups": {"mixing_group_size": 2, "grid": (5, 7)},
    "normalised": {"qk_norm": True, "grid": (5, 7)},
    "no bias": {"qkv_bias": False, "grid": (5, 7)},
    "prefix": {"num_prefix_tokens": 2, "grid": (4, 5)},
    "local term": {"local_kernel": 3, "grid": (5, 7)},
    "fewer tokens than landmarks": {"landmarks": (4, 4), "grid": (2, 5)},
    "masked image": {"grid": (5, 7), "masks": ("key_mask",)},
    "masked sequence": {"landmarks": (3,), "grid": (10,), "masks": ("key_mask",)},
    "masked volume": {"landmarks": (2, 1, 2), "grid": (3, 4, 3), "masks": ("key_mask",)},
    "masked prefix": {"num_prefix_tokens": 2, "grid": (4, 5), "masks": ("key_mask",)},
    "cross": {"grid": (5, 4), "context_grid": (3, 7)},
    "cross, prefix, normalised": {
        "grid": (3, 3),
        "context_grid": (4, 2),
        "num_prefix_tokens": 2,
        "qk_norm": True,
    },
    "cross, masked queries": {"grid": (5, 4), "context_grid": (3, 7), "masks": ("key_mask",)},
    "cross, masked keys": {"grid": (5, 4), "context_grid": (3, 7), "masks": ("context_mask",)},
    "cross, masked sequences": {
        "landmarks": (3,),
        "grid": (10,),
        "context_grid": (7,),
        "masks": ("key_mask", "context_mask"),
    },
    "everything": {
        "grid": (4, 5),
        "num_prefix_tokens": 1,
        "qk_norm": True,
        "mixing_group_size": 2,
        "local_kernel": 3,
        "masks": ("key_mask",),
    },
}


@pytest.fixture(scope="session")
def make_layer() -> Callable[..., InteractiveAttention]:
    """Gives a float64 layer of four heads in which nothing is zero or one, as after training."""

    def make(**options: Any) -> InteractiveAttention:
        torch.manual_seed(0)
        layer = InteractiveAttention(8, 4, **{"landmarks": (2, 3), **options}).double().eval()
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.3)
        return layer

    return make


@pytest.fixture(scope="session")
def make_case(make_layer) -> Callable[..., tuple[InteractiveAttention, torch.Tensor, dict[str, Any]]]:
    """Gives the layer of a case, three samples of tokens, and the arguments of the call."""

    def make(name: str, **changes: Any) -> tuple[InteractiveAttention, torch.Tensor, dict[str, Any]]:
        options = {**CASES[name], **changes}
        call = {key: options.pop(key) for key in ("grid", "context_grid") if key in options}
        masks, prefix = options.pop("masks", ()), options.get("num_prefix_tokens", 0)
        layer = make_layer(**options)
        x = torch.randn(3, prefix + prod(call["grid"]), 8, dtype=torch.float64)
        count = {"key_mask": x.shape[1]}
        if "context_grid" in call:
            count["context_mask"] = prefix + prod(call["context_grid"])
            call["context"] = torch.randn(3, count["context_mask"], 8, dtype=torch.float64)
        for mask in masks:
            call[mask] = torch.rand(3, count[mask]) < 0.6
            # One sample is whole, one has holes, and of one nothing is left.
            call[mask][0], call[mask][2] = True, False
        return layer, x, call

    return make


@pytest.fixture(params=CASES)
def case(request, make_case) -> tuple[InteractiveAttention, torch.Tensor, dict[str, Any]]:
    """Each case in turn."""
    return make_case(request.param)


@pytest.fixture(scope="session")
def recorded() -> Callable[..., LayerCall]:
    """Calls a layer and gives what was recorded."""

    def call(layer: InteractiveAttention, x: torch.Tensor, **arguments: Any) -> LayerCall:
        with torch.no_grad(), record(layer) as recording:
            layer(x, **arguments)
        return recording[0]

    return call


@pytest.fixture(scope="session")
def dense_map() -> Callable[..., torch.Tensor]:
    """Gives the map of a layer, (B, H, N, M), by the oracle: what it makes of the identity as values."""

    attention = oracle.dense_attention

    def of(layer: InteractiveAttention, x: torch.Tensor, **call: Any) -> torch.Tensor:
        keys = call.get("context", x).shape[1]
        found: list[torch.Tensor] = []

        def attend(query, key, value, **options):
            identity = torch.eye(keys, dtype=x.dtype).expand(1, layer.num_heads, -1, -1)
            found[-1] = attention(query, key, identity, **options)
            return attention(query, key, value, **options)

        with pytest.MonkeyPatch.context() as patch, torch.no_grad():
            patch.setattr(oracle, "dense_attention", attend)
            for b in range(len(x)):
                # Of a sample without a landmark the oracle asks for no attention.
                found.append(x.new_zeros(1, layer.num_heads, x.shape[1], keys))
                one: dict[str, Any] = {
                    name: value[b : b + 1] if isinstance(value, torch.Tensor) else value
                    for name, value in call.items()
                }
                oracle.dense_layer(layer, x[b : b + 1], **one)
        return torch.cat(found)

    return of

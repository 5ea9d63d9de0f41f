"""How a CPU best computes the layer's projections and pooling: four ways to the same result, taking turns.

    python benchmarks/layer_forms.py              a minute and a half on two cores, nothing else running

Queries and keys are pooled after their projection, or tokens before it and then projected once more;
projections are torch's linear function, or 1 x 1 convolutions. Writes benchmarks/results/layer_forms.csv:
medians and quartiles in seconds, of inference and of forward with backward, and the ratio to what was
done before, products and pooling before.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor
from torch.nn import functional as F

from crosshead import InteractiveAttention, interactive_attention, pool_landmarks
from crosshead.attention.projection import convolution
from crosshead.bench.report import head_lines, write_table
from crosshead.measure.timing import compare

RESULT = Path(__file__).parent / "results" / "layer_forms.csv"
REPEATS, BUDGET = 15, 2.5
# batch, tokens along each axis, channels, heads, cells along each axis
SIZES = (
    (1, 14, 320, 20, 6),
    (8, 14, 320, 20, 6),
    (1, 7, 512, 16, 3),
    (8, 7, 512, 16, 3),
    (1, 32, 320, 20, 6),
    (1, 64, 320, 20, 6),
    (1, 128, 320, 20, 6),
    (4, 64, 384, 6, 7),
)
BASE = "pooled before, products"


def attend(layer: Any, x: Tensor, axis: int, linear: Callable[..., Tensor], *, before: bool) -> Tensor:
    """The layer on a square grid."""
    sizes = {"grid": (axis, axis), "landmarks": layer.landmarks}
    weight, bias = layer.qkv.weight, layer.qkv.bias
    q, k, v = layer._heads(linear(x, weight, bias))
    if before:
        rows = slice(2 * layer.dim)
        ql, kl = layer._heads(linear(pool_landmarks(x, **sizes), weight[rows], bias[rows]))
    else:
        ql, kl = (pool_landmarks(tokens, **sizes) for tokens in (q, k))
    mixings = {"query_mixing": layer.query_mixing(), "key_mixing": layer.key_mixing()}
    y = interactive_attention(q, k, v, query_landmarks=ql, key_landmarks=kl, **mixings)
    return linear(y.transpose(1, 2).flatten(2), layer.proj.weight, layer.proj.bias)


def measured(size: tuple[int, ...], dtype: torch.dtype) -> Iterator[dict[str, Any]]:
    """A row for each way and pass."""
    batch, axis, channels, heads, cells = size
    torch.manual_seed(0)
    layer = InteractiveAttention(channels, heads, landmarks=cells, dtype=dtype)
    x = torch.randn(batch, axis * axis, channels, dtype=dtype, requires_grad=True)
    cotangent = torch.randn_like(x)
    ways: dict[str, Callable[[], Tensor]] = {
        f"pooled {'before' if before else 'after'}, {name}": (
            lambda linear=linear, before=before: attend(layer, x, axis, linear, before=before)
        )
        for name, linear in (("products", F.linear), ("convolutions", convolution))
        for before in (True, False)
    }

    def trained(way: Callable[[], Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(way(), [x, *layer.parameters()], cotangent)

    for passes in ("inference", "forward+backward"):
        runs = {
            name: torch.inference_mode()(way) if passes == "inference" else trained(way)
            for name, way in ways.items()
        }
        times = compare(runs, budget=BUDGET, repeats=REPEATS, device="cpu")
        for name, found in times.items():
            yield {
                **dict(zip(("batch", "axis", "channels", "heads", "cells"), size, strict=True)),
                "dtype": str(dtype).removeprefix("torch."),
                "passes": passes,
                "way": name,
                **found,
                "ratio_to_before": round(found["median_s"] / times[BASE]["median_s"], 3),
            }


def main() -> None:
    """Measures every size, shows each as it is there, and writes the table."""
    console, rows = Console(soft_wrap=True), []
    head = head_lines([], "tokens, channels, heads and cells as in the columns, cpu")
    head[0] = "command: python benchmarks/layer_forms.py"
    for dtype in (torch.float32, torch.bfloat16):
        for size in SIZES:
            for row in measured(size, dtype):
                rows.append(row)
                console.print(
                    f"{size} {row['dtype']:9}{row['passes']:17}{row['way']:28}"
                    f"{1e3 * row['median_s']:9.2f} ms {row['ratio_to_before']:6.2f}",
                    highlight=False,
                )
            write_table(RESULT, rows, head)


if __name__ == "__main__":
    main()

"""What interaction costs in the fused kernel, by form: the head mixing that a layer may have, taking turns.

    python benchmarks/mixing_forms.py              about three minutes on two cores, nothing else running

For each size and dtype: no interaction, all heads, groups of 8 and of 4, each on logits, weights and both;
and two calls of torch's SDPA through the same landmarks, which mix nothing. Writes
benchmarks/results/mixing_forms.csv: medians and quartiles in seconds, forward and forward with backward, and
the ratio to no interaction.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention as sdpa

from crosshead import HeadMixing, interactive_attention
from crosshead.attention.mixing import matrix_shape
from crosshead.bench.report import head_lines, write_table
from crosshead.measure.timing import compare

RESULT = Path(__file__).parent / "results" / "mixing_forms.csv"
REPEATS, BUDGET = 15, 2.0
# batch, heads, tokens, head dim, landmarks
SIZES = (
    (1, 16, 4096, 16, 49),
    (1, 32, 4096, 16, 49),
    (16, 32, 196, 2, 49),
    (16, 16, 196, 4, 49),
    (1, 8, 4096, 64, 64),
)
DTYPES = (torch.float32, torch.bfloat16)
KINDS = ("logits", "weights", "both")


class Call:
    """One size in one dtype: operands, and the computations over them by name."""

    def __init__(self, size: tuple[int, ...], dtype: torch.dtype) -> None:
        batch, self.heads, tokens, dim, landmarks = size
        self.dtype, self.generator = dtype, torch.Generator().manual_seed(0)
        # As a fused projection gives them: heads behind tokens.
        q, k, v = (self.draw(batch, tokens, self.heads, dim).transpose(1, 2) for _ in range(3))
        ql, kl = (self.draw(batch, self.heads, landmarks, dim) for _ in range(2))
        self.operands = [x.requires_grad_() for x in (q, k, v, ql, kl)]
        self.cotangent = self.draw(batch, self.heads, tokens, dim)

    def draw(self, *shape: int, size: float = 1.0) -> Tensor:
        return (size * torch.randn(shape, generator=self.generator)).to(self.dtype)

    def mixing(self, group_size: int, kind: str) -> HeadMixing:
        shape = matrix_shape(self.heads, group_size)
        present = [part for part in HeadMixing._fields if kind in (part, "both")]
        return HeadMixing(**{part: self.draw(*shape, size=0.1).requires_grad_() for part in present})

    def forms(self) -> dict[str, Callable[[], Tensor]]:
        """Forward passes by the name of what they mix."""
        q, k, v, ql, kl = self.operands

        def fused(**mixings: Any) -> Callable[[], Tensor]:
            landmarks = {"query_landmarks": ql, "key_landmarks": kl}
            return lambda: interactive_attention(q, k, v, **landmarks, **mixings, impl="fused")

        found: dict[str, Callable[[], Tensor]] = {"none": fused()}
        for group_size in sorted({self.heads, 8, 4}, reverse=True):
            for kind in KINDS if group_size <= self.heads else ():
                name = f"{kind}, {'all heads' if group_size == self.heads else f'groups of {group_size}'}"
                found[name] = fused(
                    query_mixing=self.mixing(group_size, kind), key_mixing=self.mixing(group_size, kind)
                )
        found["two SDPA calls"] = lambda: sdpa(q, kl, sdpa(ql, k, v))
        return found


def with_backward(call: Call, forward: Callable[[], Tensor]) -> Callable[[], object]:
    def run() -> None:
        forward().backward(call.cotangent)
        for x in call.operands:
            x.grad = None

    return run


def without_gradients(forward: Callable[[], Tensor]) -> Callable[[], object]:
    return torch.no_grad()(forward)


def measured(size: tuple[int, ...], dtype: torch.dtype) -> Iterator[dict[str, Any]]:
    """A row for each form and pass."""
    call = Call(size, dtype)
    for passes in ("forward", "forward+backward"):
        runs = {
            name: without_gradients(forward) if passes == "forward" else with_backward(call, forward)
            for name, forward in call.forms().items()
        }
        times = compare(runs, budget=BUDGET, repeats=REPEATS, device="cpu")
        for name, found in times.items():
            places = dict(zip(("batch", "heads", "tokens", "head_dim", "landmarks"), size, strict=True))
            yield {
                **places,
                "dtype": str(dtype).removeprefix("torch."),
                "passes": passes,
                "mixing": name,
                **found,
                "ratio_to_none": round(found["median_s"] / times["none"]["median_s"], 3),
            }


def main() -> None:
    """Measures every size, shows each as it is there, and writes the table."""
    console, rows = Console(), []
    head = head_lines([], "batch, heads, tokens, head dim and landmarks as in the columns, cpu")
    head[0] = "command: python benchmarks/mixing_forms.py"
    for size in SIZES:
        for dtype in DTYPES:
            for row in measured(size, dtype):
                rows.append(row)
                console.print(
                    f"{size} {row['dtype']:9}{row['passes']:17}{row['mixing']:24}"
                    f"{1e3 * row['median_s']:8.2f} ms {row['ratio_to_none']:6.2f}",
                    highlight=False,
                )
            write_table(RESULT, rows, head)


if __name__ == "__main__":
    main()

"""What the machine could do at best, and how near a measured time comes to it.

Legend: `B` batch, `H` heads, `N` tokens, `L` landmarks, `D` head dim, `E = D` value head dim.

The limit of some work is the longer of two times: its multiply-adds at the rate of a large matrix product of
torch in the same dtype, and its bytes at the rate of a large copy, both measured in the same run.
Exponentials are not counted, so no kernel can reach the limit where they cost as much as a product.

Two amounts of work are set against it. `needed` is what the equations ask for: `crosshead.measure.cost` for
the forward pass; the backward pass has twice its multiply-adds, for two operands of each product. `done` is
what the implementation executes, recomputation included.
"""

from dataclasses import dataclass

import torch

from crosshead.attention.mixing import Mixing
from crosshead.bench.providers import Setting
from crosshead.measure.cost import operator_cost, softmax_attention_cost
from crosshead.measure.timing import time_calls

GEMM_SIDE = {"cpu": 2048, "cuda": 8192}
COPY_BYTES = {"cpu": 2**29, "cuda": 2**32}
BEST_OF = 5


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What was measured of the machine.

    Attributes:
        multiply_adds_per_second: in a large matrix product.
        bytes_per_second: in a large copy, what is read and what is written both counted.
    """

    multiply_adds_per_second: float
    bytes_per_second: float

    def limit(self, work: "Work") -> float:
        """The least seconds for some work."""
        return max(work.multiply_adds / self.multiply_adds_per_second, work.bytes / self.bytes_per_second)

    def __str__(self) -> str:
        return (
            f"matrix product {2 * self.multiply_adds_per_second / 1e9:,.0f} GFLOP/s, "
            f"copy {self.bytes_per_second / 1e9:,.1f} GB/s read and written"
        )


@dataclass(frozen=True, kw_only=True)
class Work:
    """An amount of work."""

    multiply_adds: int
    bytes: int


def measure_machine(setting: Setting, *, side: int | None = None, copied: int | None = None) -> Machine:
    """Measures both rates, the best of several.

    Args:
        setting: dtype and device.
        side: of the square matrices; by default large enough.
        copied: bytes of the tensor that is copied; by default larger than any cache.
    """
    place = {"device": setting.device, "dtype": setting.torch_dtype}
    side = side or GEMM_SIDE[setting.device]
    a, b = (torch.randn(side, side, device=setting.device).to(setting.torch_dtype) for _ in range(2))
    product = torch.empty(side, side, **place)
    source = torch.zeros((copied or COPY_BYTES[setting.device]) // a.element_size(), **place)
    target = torch.empty_like(source)
    times = []
    for run in (lambda: torch.mm(a, b, out=product), lambda: target.copy_(source)):
        run()
        times.append(min(time_calls(run, 1, device=setting.device) for _ in range(BEST_OF)))
    return Machine(multiply_adds_per_second=side**3 / times[0], bytes_per_second=2 * source.nbytes / times[1])


def needed_work(name: str, setting: Setting, tokens: int, *, backward: bool) -> Work | None:
    """The work that the equations of an operator need; None where there is no count.

    Every operand is read once and every result written once: the backward pass reads the operands and the
    gradient of the output, and writes a gradient for each operand.
    """
    sizes = {"queries": tokens, "heads": setting.heads, "head_dim": setting.head_dim}
    common = {"batch": setting.batch, "dtype": setting.dtype}
    if name in ("reference", "streamed", "fused", "compiled", "landmarks-only"):
        mixing: Mixing = "none" if name == "landmarks-only" else setting.mixing
        groups = {"mixing": mixing, "mixing_group_size": setting.mixing_group_size}
        cost = operator_cost(**sizes, **common, **groups, landmarks=setting.landmarks)
    elif name in ("exact", "talking-heads"):
        cost = softmax_attention_cost(**sizes, **common, talking_heads=name == "talking-heads")
    else:
        return None
    if not backward:
        return Work(multiply_adds=cost.multiply_adds, bytes=cost.bytes_moved)
    output = _token_bytes(setting, tokens)
    operands = cost.bytes_moved - output
    return Work(multiply_adds=3 * cost.multiply_adds, bytes=3 * operands + 2 * output)


def done_work(name: str, setting: Setting, tokens: int, *, backward: bool) -> Work | None:
    """The work that `streamed` and `fused` execute; None for all others.

    Forward: the key factor mixes heads after a softmax over all tokens, so its logits and their mixing are
    computed twice, once for the normaliser; all else once. Keys are read twice.

    Backward, on the query side: the logits again, dF = dO A^T, dA = F^T dO, dQ and dKl: five products; mixing
    by P, W and their transposes, and the gradients of both. On the key side: logits and dF twice, dV, dK and
    dQl: seven products; the same mixing and one P and one W^T more. Keys and values are read twice.
    `streamed` mixes once more by W^T on the query side.
    """
    needed = needed_work(name, setting, tokens, backward=backward)
    if name not in ("streamed", "fused") or needed is None:
        return None
    product = setting.batch * setting.heads * tokens * setting.landmarks * setting.head_dim
    heard = setting.mixing_group_size or setting.heads
    mixing = setting.batch * setting.heads * heard * tokens * setting.landmarks
    p, w = setting.mixing in ("logits", "both"), setting.mixing in ("weights", "both")
    read = _token_bytes(setting, tokens)

    query, key = 2 * product + (p + w) * mixing, 3 * product + (2 * p + w) * mixing
    forward = Work(multiply_adds=query + key, bytes=needed.bytes + read)
    if not backward:
        return forward
    query = 5 * product + (3 * p + (4 if name == "streamed" else 3) * w) * mixing
    key = 7 * product + (4 * p + 4 * w) * mixing
    return Work(multiply_adds=forward.multiply_adds + query + key, bytes=forward.bytes + 2 * read)


def _token_bytes(setting: Setting, tokens: int) -> int:
    """Bytes of queries, keys, values or outputs: `(B, H, N, D)`."""
    return setting.batch * setting.heads * tokens * setting.head_dim * setting.torch_dtype.itemsize

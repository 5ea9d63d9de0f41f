"""The fused attention as launches of Triton kernels.

Legend: `B` batch, `H` heads, `N` query tokens, `M` key tokens, `L` landmarks, `D` head dim,
`E` value head dim; `T` the tokens of one factor, queries or keys.

Beyond results there are partial sums of at most about `PROGRAMS` programs, statistics of the key factor
(B, H, L), and in the backward pass two numbers for each query and head. Nothing has `N x L` elements.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import triton.language as tl
from torch import Tensor

from crosshead.attention.impl.fused.cuda import backward as backward_kernels
from crosshead.attention.impl.fused.cuda import forward as forward_kernels
from crosshead.attention.impl.fused.cuda import tiles
from crosshead.attention.impl.precision import key_scale
from crosshead.attention.operands import Operands

# How many programs share the tokens when each adds over a chunk of them: a few for every multiprocessor of
# the largest GPU. A constant, so that the order of summation, and the last bit, follow from the shapes alone.
PROGRAMS = 528
# Shorter chunks, in tiles, would spend their time on their landmarks.
SHORTEST_CHUNK = 8
# Sums of products between heads that a program holds at a time.
GROUPED = 1024
# Numbers that one program of the small kernels takes.
BLOCK = 1024

# Tensor cores for bfloat16 and for float32 in eleven bits.
OLDEST_CAPABILITY = (8, 0)
TRITON_DTYPES = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}


def refusal(q: Tensor, v: Tensor, group_size: int | None) -> str | None:
    """Why these operands cannot be taken, and the remedy; None where they can. N, M, L may be anything."""
    if q.dtype not in TRITON_DTYPES:
        return (
            f"dtype must be float32, bfloat16 or float16; got {q.dtype}: convert the operands or use "
            "impl='streamed'"
        )
    if q.is_cuda and torch.cuda.get_device_capability(q.device) < OLDEST_CAPABILITY:
        found, needed = (
            ".".join(map(str, x)) for x in (torch.cuda.get_device_capability(q.device), OLDEST_CAPABILITY)
        )
        return f"the GPU must have compute capability {needed} or newer; got {found}: use impl='streamed'"
    heads = _power_of_two(group_size or q.shape[1])
    dim = max(_padded(q.shape[3]), _padded(v.shape[3]))
    return tiles.refusal(heads=heads, dim=dim, dtype=q.dtype)


def forward(operands: Operands) -> tuple[Tensor, Tensor, Tensor]:
    """Output (B, H, N, E), aggregate F_k V (B, H, L, E), log-normaliser of the key factor (B, H, L)."""
    q, k, v, ql, kl, p_query, w_query, p_key, w_key, key_mask, landmark_mask, scale = operands
    sizes = v.shape[3], operands.group_size
    queries = _Factor(q, kl, p_query, w_query, landmark_mask, scale, *sizes, key=False)
    keys = _Factor(k, ql, p_key, w_key, key_mask, scale, *sizes, key=True)
    with torch.cuda.device_of(q):
        normaliser = keys.normaliser()
        aggregate = keys.aggregate(v, normaliser, landmark_mask, v.dtype)
        output = queries.output(aggregate, None, v.dtype)
    return output, aggregate, normaliser


def backward(grad_output: Tensor, operands: Operands, aggregate: Tensor, normaliser: Tensor) -> list[Tensor]:
    """Gradients of the nine tensors up to `w_key`; an empty one for an absent matrix."""
    q, k, v, ql, kl, p_query, w_query, p_key, w_key, key_mask, landmark_mask, scale = operands
    sizes = v.shape[3], operands.group_size
    queries = _Factor(q, kl, p_query, w_query, landmark_mask, scale, *sizes, key=False)
    keys = _Factor(k, ql, p_key, w_key, key_mask, scale, *sizes, key=True)
    with torch.cuda.device_of(q):
        grad_q, query_normaliser, overlap = queries.query_gradients(grad_output, aggregate)
        grad_kl, grad_p_query, grad_w_query = queries.landmark_gradients(
            grad_output, aggregate, query_normaliser, overlap
        )
        # As an operand of products this gradient is rounded where bfloat16 holds its range; float16 may not.
        dtype = torch.bfloat16 if v.dtype == torch.bfloat16 else torch.float32
        grad_aggregate = queries.aggregate(grad_output, query_normaliser, landmark_mask, dtype)
        overlap = keys.key_overlap(v, grad_aggregate, normaliser)
        grad_k = keys.key_gradients(v, grad_aggregate, normaliser, overlap)
        grad_v = keys.output(grad_aggregate, normaliser, v.dtype)
        grad_ql, grad_p_key, grad_w_key = keys.landmark_gradients(v, grad_aggregate, normaliser, overlap)
    return [
        grad_q, grad_k, grad_v, grad_ql, grad_kl, grad_p_query, grad_w_query, grad_p_key, grad_w_key
    ]  # fmt: skip


class _Factor:
    """One factor, with its softmax over landmarks (of queries) or over tokens (of keys), and its kernels."""

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        p: Tensor | None,
        w: Tensor | None,
        mask: Tensor | None,
        scale: float,
        value_dim: int,
        group_size: int | None,
        *,
        key: bool,
    ) -> None:
        self.x, self.y, self.p, self.w, self.key = x, y, p, w, key
        batch, heads, self.tokens, self.dim = x.shape
        # Heads that never talk to each other are problems of their own.
        self.heads = group_size or heads
        self.groups = heads // self.heads
        self.batch = batch * self.groups
        self.landmarks, self.value_dim, self.dtype = y.shape[2], value_dim, x.dtype
        self.enlarged = key_scale(x.dtype) if key else 1.0
        self.block_heads = _power_of_two(self.heads)
        self.arguments = {
            "p_x": x,
            "p_y": y,
            "p_p": None if p is None else p.contiguous(),
            "p_w": None if w is None else w.contiguous(),
            "p_mask": mask,
            "s_x": x.stride(),
            "s_y": y.stride(),
            "s_mask": None if mask is None else mask.stride(),
            "scale": scale,
            "enlarged": self.enlarged,
            "T": self.tokens,
            "L": self.landmarks,
            "KEY": key,
            "G": self.groups,
            "H": self.heads,
            "D": self.dim,
            "E": value_dim,
            "BH": self.block_heads,
            "BD": _padded(self.dim),
            "BE": _padded(value_dim),
            "BX": _padded(self.heads),
            "PRECISION": tiles.PRECISION[x.dtype],
            "GRAD": tl.bfloat16 if x.dtype == torch.bfloat16 else tl.float32,
        }

    def normaliser(self) -> Tensor:
        """Of the key factor, `(B, H, L)`."""
        chunks = self._chunks(forward_kernels.key_statistics)
        largest, total = self._float32(2, self.batch, chunks.count, self.heads, self.landmarks)
        self._launch(
            forward_kernels.key_statistics, chunks.programs, chunk=chunks.tokens, p_max=largest, p_sum=total
        )
        normaliser = self._float32(*self.y.shape[:3])
        count = self.heads * self.landmarks
        _run(
            forward_kernels.combine_statistics,
            self.batch * _parts(count, BLOCK),
            p_max=largest,
            p_sum=total,
            p_normaliser=normaliser,
            count=count,
            chunks=chunks.count,
            BLOCK=BLOCK,
        )
        return normaliser

    def aggregate(
        self, v: Tensor, normaliser: Tensor, landmark_mask: Tensor | None, dtype: torch.dtype
    ) -> Tensor:
        """The transposed factor times v of the tokens, `(B, H, L, E)`."""
        chunks = self._chunks(forward_kernels.aggregate)
        partial = self._float32(self.batch, chunks.count, self.heads, self.landmarks, self.value_dim)
        self._launch(
            forward_kernels.aggregate,
            chunks.programs,
            chunk=chunks.tokens,
            p_v=v,
            s_v=v.stride(),
            p_normaliser=normaliser,
            p_partial=partial,
        )
        return self._sum(partial, landmark_mask, dtype)

    def output(self, right: Tensor, normaliser: Tensor | None, dtype: torch.dtype) -> Tensor:
        """The factor times what stands at the landmarks, `(B, H, T, E)`."""
        output = right.new_empty(*self.x.shape[:3], self.value_dim, dtype=dtype)
        kernel = forward_kernels.output
        tile = self._tile(forward_kernels.query_output)
        if not self.key and tiles.holds(
            tile, heads=self.block_heads, landmarks=self.landmarks, dtype=self.dtype
        ):
            kernel = forward_kernels.query_output
        self._launch(
            kernel,
            self._token_tiles(kernel),
            p_right=right,
            s_right=right.stride(),
            p_normaliser=normaliser,
            p_output=output,
            SLICES=_parts(self.landmarks, tile.landmarks),
            RIGHT=TRITON_DTYPES[right.dtype],
        )
        return output

    def key_overlap(self, g: Tensor, right: Tensor, normaliser: Tensor) -> Tensor:
        """`(B, H, L)`."""
        chunks = self._chunks(backward_kernels.key_overlap)
        partial = self._float32(self.batch, chunks.count, self.heads, self.landmarks)
        self._launch(
            backward_kernels.key_overlap,
            chunks.programs,
            chunk=chunks.tokens,
            p_normaliser=normaliser,
            p_partial=partial,
            **_meeting(g, right),
        )
        return self._sum(partial, None, torch.float32)

    def query_gradients(self, g: Tensor, right: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of the queries `(B, H, N, D)`; and their log-normaliser and overlap, `(B, H, N)` each."""
        normaliser, overlap = self._float32(2, self.batch, self.heads, self.tokens)
        return self.key_gradients(g, right, normaliser, overlap), normaliser, overlap

    def key_gradients(self, g: Tensor, right: Tensor, normaliser: Tensor, overlap: Tensor) -> Tensor:
        """Of the tokens, `(B, H, T, D)`."""
        grad = self.x.new_empty(self.x.shape)
        self._launch(
            backward_kernels.token_gradients,
            self._token_tiles(backward_kernels.token_gradients),
            p_normaliser=normaliser,
            p_overlap=overlap,
            p_grad=grad,
            **_meeting(g, right),
        )
        return grad

    def landmark_gradients(
        self, g: Tensor, right: Tensor, normaliser: Tensor, overlap: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Of the landmarks `(B, H, L, D)` and of the two mixing matrices."""
        kernel = backward_kernels.landmark_gradients
        chunks, tile, side = self._chunks(kernel), self._tile(kernel), self.arguments["BX"]
        partial = self._float32(self.batch, chunks.count, self.heads, self.landmarks, self.dim)
        p, w = (None if m is None else self._float32(chunks.programs, side, side) for m in (self.p, self.w))
        rows = tile.tokens * tile.landmarks * self.block_heads // side
        arguments = {
            "chunk": chunks.tokens,
            "p_normaliser": normaliser,
            "p_overlap": overlap,
            "GROUPS": min(tile.warps, rows // 16, GROUPED // side**2),
            **_meeting(g, right),
        }
        if tile.separate and not (p is None and w is None):
            self._launch(
                kernel, chunks.programs, **arguments, p_partial=partial, p_grad_p=None, p_grad_w=None
            )
            self._launch(kernel, chunks.programs, **arguments, p_partial=None, p_grad_p=p, p_grad_w=w)
        else:
            self._launch(kernel, chunks.programs, **arguments, p_partial=partial, p_grad_p=p, p_grad_w=w)
        grad = self._sum(partial, None, self.y.dtype)
        return grad, self._matrix_gradient(self.p, p), self._matrix_gradient(self.w, w)

    def _matrix_gradient(self, matrix: Tensor | None, partial: Tensor | None) -> Tensor:
        if matrix is None or partial is None:
            return self.x.new_empty(0)
        # Few heads stand several times on the diagonal.
        repeats = partial.shape[-1] // self.block_heads
        of_groups = partial.unflatten(0, (self.batch // self.groups, self.groups, -1)).sum((0, 2))
        blocks = of_groups.view(self.groups, repeats, self.block_heads, repeats, self.block_heads)
        total = blocks.diagonal(dim1=1, dim2=3).sum(-1)
        return total[:, : self.heads, : self.heads].reshape(matrix.shape).to(matrix.dtype).contiguous()

    def _sum(self, partial: Tensor, landmark_mask: Tensor | None, dtype: torch.dtype) -> Tensor:
        """Over chunks: of groups to `(B, H, L, ...)` with zeros at masked landmarks."""
        batch, chunks, *shape = partial.shape
        total = partial.new_empty(*self.y.shape[:3], *shape[2:], dtype=dtype)
        count = math.prod(shape)
        _run(
            forward_kernels.sum_partial,
            batch * _parts(count, BLOCK),
            p_partial=partial,
            p_mask=landmark_mask,
            p_sum=total,
            s_mask=None if landmark_mask is None else landmark_mask.stride(),
            count=count,
            chunks=chunks,
            L=self.landmarks,
            G=self.groups,
            C=count // (self.heads * self.landmarks),
            BLOCK=BLOCK,
        )
        return total

    def _float32(self, *shape: int) -> Tensor:
        return self.x.new_empty(shape, dtype=torch.float32)

    def _tile(self, kernel: Any) -> tiles.Tile:
        return tiles.choose(
            kernel.__name__,
            heads=self.block_heads,
            dim=max(self.arguments["BD"], self.arguments["BE"]),
            dtype=self.dtype,
        )

    def _token_tiles(self, kernel: Any) -> int:
        return self.batch * _parts(self.tokens, self._tile(kernel).tokens)

    def _chunks(self, kernel: Any) -> "_Chunks":
        tile = self._tile(kernel)
        slices = self.batch * _parts(self.landmarks, tile.landmarks)
        in_all = _parts(self.tokens, tile.tokens)
        each = max(SHORTEST_CHUNK, _parts(in_all * slices, PROGRAMS))
        count = _parts(in_all, each)
        return _Chunks(count=count, tokens=each * tile.tokens, programs=count * slices)

    def _launch(self, kernel: Any, programs: int, **more: Any) -> None:
        tile = self._tile(kernel)
        arguments = {**self.arguments, **more, "BT": tile.tokens, "BL": tile.landmarks}
        operands = [x for x in arguments.values() if isinstance(x, Tensor)]
        arguments["INDEX"] = tl.int32 if all(map(_spans_int32, operands)) else tl.int64
        wanted = {name: arguments[name] for name in kernel.arg_names}
        _run(kernel, programs, **wanted, num_warps=tile.warps, num_stages=tile.stages)


@dataclass(frozen=True, kw_only=True)
class _Chunks:
    """How the tokens are divided among the programs that add over them."""

    count: int
    tokens: int
    programs: int


def _meeting(g: Tensor, right: Tensor) -> dict[str, Any]:
    """What comes to tokens from outside and what it meets at landmarks."""
    return {
        "p_g": g,
        "p_right": right,
        "s_g": g.stride(),
        "s_right": right.stride(),
        "RIGHT": TRITON_DTYPES[right.dtype],
    }


# Not triton.cdiv and triton.next_power_of_2: Triton 3.6 declares that they return constants of a kernel.
def _parts(count: int, size: int) -> int:
    """How many parts of this size hold the count."""
    return -(-count // size)


def _power_of_two(size: int) -> int:
    """The smallest that is not below the size."""
    return 1 << (size - 1).bit_length()


def _padded(size: int) -> int:
    """A side that tensor cores take."""
    return max(16, _power_of_two(size))


def _spans_int32(x: Tensor) -> bool:
    """Whether 32 bits can say how far apart two places of one sample are."""
    return sum(size * stride for size, stride in zip(x.shape[1:], x.stride()[1:], strict=True)) < 2**31


def _run(kernel: Any, programs: int, **arguments: Any) -> None:
    if programs:
        kernel[(programs,)](**arguments)

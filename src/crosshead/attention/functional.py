"""The public functions of the operator: what they mean, what they refuse, and which implementation runs.

Legend: `B` batch, `H` heads, `N` query tokens, `M` key tokens, `L` landmarks, `D` head dim,
`E` value head dim.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from crosshead.attention.grid import zero_outside
from crosshead.attention.impl import fused, reference, streamed
from crosshead.attention.impl.operator import beyond_one_derivative
from crosshead.attention.impl.precision import without_autocast
from crosshead.attention.impl.reference import AttentionFactors
from crosshead.attention.mixing import HeadMixing
from crosshead.attention.operands import Operands, checked_operands
from crosshead.attention.transforms import carry_tangents, under_export, under_torch_func

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

Implementation = Literal["auto", "reference", "streamed", "fused"]
IMPLEMENTATIONS: tuple[str, ...] = ("auto", "reference", "streamed", "fused")

# `auto` streams from this many elements of the two factors, B H L (N + M). Below, the reference is quicker;
# above, it takes 160 MiB and more for a backward pass. Measured: docs/decisions.md, "Where auto streams".
STREAMED_FROM = 2**24


def interactive_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    query_landmarks: Tensor,
    key_landmarks: Tensor,
    query_mixing: HeadMixing | None = None,
    key_mixing: HeadMixing | None = None,
    query_mask: Tensor | None = None,
    key_mask: Tensor | None = None,
    landmark_mask: Tensor | None = None,
    scale: float | None = None,
    impl: Implementation = "auto",
    process_group: "ProcessGroup | None" = None,
) -> Tensor:
    """Interactive multi-head attention through landmarks, in time and memory linear in the tokens.

        F_q = W(softmax_L(P(s Q Kl^T)))    F_k = W(softmax_M(P(s Ql K^T)))    O = F_q (F_k V)

    P and W mix heads: `y_g = x_g + sum_h R[g, h] x_h` with the residual matrices of `query_mixing` and
    `key_mixing`. Without mixing this is `SDPA(Q, Kl, SDPA(Ql, K, V))`. It is an attention of its own and no
    approximation that tends to softmax attention as L grows.

    Softmax and sums are float32 for half-precision inputs. Under autocast the inputs are cast as for SDPA.

    Args:
        query: `(B, H, N, D)`.
        key: `(B, H, M, D)`.
        value: `(B, H, M, E)`.
        query_landmarks: `(B, H, L, D)`, usually `pool_landmarks(query, ...)`.
        key_landmarks: `(B, H, L, D)`, usually `pool_landmarks(key, ...)`.
        query_mixing: residual matrices of the query factor: `(H, H)`, or `(H / K, K, K)` where groups of K
            heads talk among themselves.
        key_mixing: residual matrices of the key factor.
        query_mask: bool `(B, N)`, True = takes part; other rows of the output are zero.
        key_mask: bool `(B, M)`, True = takes part.
        landmark_mask: bool `(B, L)`, True = the landmark holds a token: see `occupied_landmarks`. What stands
            at masked places of any input, NaN included, changes no output and no gradient.
        scale: the factor s of the logits; `1 / sqrt(D)` by default.
        impl: "reference" (both factors in memory; differentiable twice), "streamed" (tiles of tokens; memory
            linear in tokens), "fused" (kernels for CPUs and NVIDIA GPUs: `crosshead info` tells whether they
            are ready), or "auto": fused on CPUs where it is ready, else streamed from a documented size, else
            reference. An explicit choice never falls back: "streamed" and "fused" are differentiable once, in
            reverse mode, and raise on second derivatives, forward mode (`torch.func.jvp`) and what else
            `torch.func` does (`grad`, `vmap`). "auto" does all of this as reference does, in its memory; with
            `create_graph=True`, which only the backward pass sees, it computes the factors again there.
        process_group: where tokens are shared out to ranks: query, key, value and their masks are those of
            this rank, landmarks and mixing are the same on all. "auto" is "streamed" then where "fused" is
            not ready. Gradients of what all ranks hold are this rank's part: see `crosshead.shard_tokens`.

    Returns:
        `(B, H, N, E)`.

    Raises:
        ValueError: if shapes do not belong together, or `impl` is unknown.
        TypeError: if operands are not floating-point tensors of one dtype and device, or masks are not bool.
        NotImplementedError: if the implementation cannot do what is asked.

    Source: arXiv 2402.17507, equation 6; the form of the interaction is ours, see docs/decisions.md.

    Example:
        >>> import torch
        >>> from crosshead import HeadMixing, interactive_attention, pool_landmarks
        >>> q, k, v = torch.randn(3, 2, 8, 1024, 32)
        >>> ql, kl = (pool_landmarks(x, grid=(32, 32), landmarks=7) for x in (q, k))
        >>> mixing = HeadMixing(logits=torch.zeros(8, 8), weights=torch.zeros(8, 8))
        >>> interactive_attention(q, k, v, query_landmarks=ql, key_landmarks=kl, query_mixing=mixing).shape
        torch.Size([2, 8, 1024, 32])
    """
    masks = {"query_mask": query_mask, "key_mask": key_mask, "landmark_mask": landmark_mask}
    operands = checked_operands(
        (query, key, value, query_landmarks, key_landmarks), (query_mixing, key_mixing), masks, scale=scale
    )
    attend = _choose(impl, operands) if process_group is None else _sharded(impl, operands, process_group)
    with without_autocast(operands.q), _beyond_one_derivative(impl):
        output = attend(operands)
    return zero_outside(query_mask, output)


def attention_factors(
    query: Tensor,
    key: Tensor,
    *,
    query_landmarks: Tensor,
    key_landmarks: Tensor,
    query_mixing: HeadMixing | None = None,
    key_mixing: HeadMixing | None = None,
    query_mask: Tensor | None = None,
    key_mask: Tensor | None = None,
    landmark_mask: Tensor | None = None,
    scale: float | None = None,
) -> AttentionFactors:
    """The two factors of the attention map, for looking inside: memory `B H L (N + M)`.

    Args:
        query: `(B, H, N, D)`.
        key: `(B, H, M, D)`.
        query_landmarks: `(B, H, L, D)`.
        key_landmarks: `(B, H, L, D)`.
        query_mixing: as for `interactive_attention`.
        key_mixing: as for `interactive_attention`.
        query_mask: as for `interactive_attention`; other rows of the query factor are zero.
        key_mask: as for `interactive_attention`.
        landmark_mask: as for `interactive_attention`.
        scale: as for `interactive_attention`.

    Returns:
        `AttentionFactors(query (B, H, N, L), key (B, H, L, M))`, float64 for float64 inputs and float32 for
        all others. Without weight mixing every row of a valid query sums to one.

    Raises:
        ValueError: if shapes do not belong together.
        TypeError: if operands are not floating-point tensors of one dtype and device, or masks are not bool.

    Source: arXiv 2402.17507, equation 6.

    Example:
        >>> import torch
        >>> from crosshead import attention_factors
        >>> q, k, landmarks = torch.randn(1, 4, 9, 8), torch.randn(1, 4, 25, 8), torch.randn(1, 4, 3, 8)
        >>> factors = attention_factors(q, k, query_landmarks=landmarks, key_landmarks=landmarks)
        >>> torch.allclose((factors.query @ factors.key).sum(-1), torch.ones(1, 4, 9))
        True
    """
    masks = {"query_mask": query_mask, "key_mask": key_mask, "landmark_mask": landmark_mask}
    operands = checked_operands(
        (query, key, key, query_landmarks, key_landmarks), (query_mixing, key_mixing), masks, scale=scale
    )
    with without_autocast(operands.q):
        query_factor, key_factor = reference.factors(operands)
    return AttentionFactors(zero_outside(query_mask, query_factor), key_factor)


def check_implementation(impl: str) -> None:
    """Refuses a name that is not an implementation.

    Raises:
        ValueError: if `impl` is unknown.
    """
    if impl not in IMPLEMENTATIONS:
        raise ValueError(f"impl must be one of {', '.join(IMPLEMENTATIONS)}; got {impl!r}")


def _choose(impl: str, operands: Operands) -> Callable[[Operands], Tensor]:
    check_implementation(impl)
    if impl == "reference":
        return reference.attention
    if impl == "streamed":
        return streamed.attention
    # Exports and traces are for other runtimes, for torch.onnx and for counters of operations, which know the
    # equations and not our operators; and a size test would tie them to one side of the threshold.
    if impl == "auto" and (under_export() or torch.jit.is_tracing()):
        return reference.attention
    # What only the equations can follow.
    if impl == "auto" and (under_torch_func() or carry_tangents(operands)):
        return reference.attention
    q, k, v, _, kl, *_ = operands
    if impl == "fused" or q.device.type in fused.PROVEN:
        reason = fused.refusal(q, v, operands.group_size)
        if reason is None:
            return fused.attention
        if impl == "fused":
            raise NotImplementedError(
                f"impl='fused' cannot run this: {reason}. impl='auto', 'streamed' and 'reference' can"
            )
    batch, heads, count, _ = kl.shape
    elements = batch * heads * count * (q.shape[-2] + k.shape[-2])
    return streamed.attention if elements >= STREAMED_FROM else reference.attention


def _sharded(impl: str, operands: Operands, group: "ProcessGroup") -> Callable[[Operands], Tensor]:
    """As `_choose`, but alike on every rank, whatever its tokens: passes exchange what equations do not."""
    # torch need not be built with processes.
    from crosshead.attention.collectives import refuse_transforms
    from crosshead.attention.impl import sharded

    check_implementation(impl)
    refuse_transforms(operands)
    if impl == "reference":
        return partial(sharded.by_equations, group=group)
    on_cpu = operands.q.device.type == "cpu"
    reason = (
        fused.refusal(operands.q, operands.v, operands.group_size)
        if on_cpu
        else "the kernel of GPUs does not stop for processes that share out tokens to exchange sums"
    )
    if impl == "fused" and reason is not None:
        raise NotImplementedError(
            f"impl='fused' cannot run this: {reason}. impl='auto', 'streamed' and 'reference' can"
        )
    passes = streamed if impl == "streamed" or reason is not None else fused.passes
    return partial(sharded.by_passes, group=group, passes=passes)


def _beyond_one_derivative(impl: str) -> AbstractContextManager:
    """For `auto`, which promised no operator, the equations also where only the backward pass needs them."""
    # What is compiled is differentiable once anyway, and a tracer need not follow this.
    if impl != "auto" or torch.compiler.is_compiling():
        return nullcontext()
    return beyond_one_derivative(reference.attention)

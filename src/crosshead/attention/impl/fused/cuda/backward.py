"""Triton kernels of the backward pass: both factors again, from their normalisers, tile by tile.

Legend: see `tile.py`; `g` is what comes to a token from outside (dO of a query, v of a key), `right` what it
meets at a landmark (A, or dA), so that for both factors

    dF = g right^T    u = dF + dF W    dS = w (u - overlap)    dX = dS + dS P    overlap = sum of w u

    dx = scale dX y   dy = scale dX^T x    dP = dS^T X    dW = dF^T w            (the last two over heads)

with the overlap summed along the softmax: over landmarks for the query factor, over tokens for the key one.
"""

# Triton's compiler, and no type checker, knows which constants and ranges a kernel may be given.
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
import triton
import triton.language as tl

from crosshead.attention.impl.fused.cuda.forward import slice_and_chunk
from crosshead.attention.impl.fused.cuda.tile import (
    MASKED,
    along_softmax,
    between_heads,
    by_landmark,
    by_token,
    load_mixing,
    load_rows,
    load_statistic,
    load_valid,
    mix,
    raw_logits,
    store_rows,
    store_statistic,
    weights_of,
)


@triton.jit
def query_overlap(
    b_x, b_g, p_y, p_right, b_p, b_w_back, p_mask, s_y, s_right, s_mask, scale, b, L, G: tl.constexpr,
    H: tl.constexpr, D: tl.constexpr, E: tl.constexpr, BD: tl.constexpr, BE: tl.constexpr, BL:
    tl.constexpr, INDEX: tl.constexpr, PRECISION: tl.constexpr, RIGHT: tl.constexpr,
):  # fmt: skip
    """Log-normaliser and overlap of one tile of queries: (BT, BH) each."""
    BH: tl.constexpr = b_x.shape[0]
    BT: tl.constexpr = b_x.shape[1]
    b_max = tl.full((BT, BH), MASKED, tl.float32)
    b_sum = tl.zeros((BT, BH), tl.float32)
    b_overlap = tl.zeros((BT, BH), tl.float32)
    for start in range(0, L, BL):
        b_landmarks = start + tl.arange(0, BL)
        b_y = load_rows(p_y, s_y, b, b_landmarks, L, G, H, D, BH, BD, INDEX)  # (BH, BL, BD)
        b_right = load_rows(p_right, s_right, b, b_landmarks, L, G, H, E, BH, BE, INDEX).to(
            RIGHT
        )  # (BH, BL, BE)
        b_occupied = load_valid(p_mask, s_mask, b // G, b_landmarks, L)[None, :, None]
        b_logits = mix(raw_logits(b_x, b_y, scale, True, PRECISION), b_p, PRECISION)  # (BT, BL, BH)
        b_upstream = mix(raw_logits(b_g, b_right, 1.0, True, PRECISION), b_w_back, PRECISION)
        b_next = tl.maximum(b_max, tl.max(tl.where(b_occupied, b_logits, MASKED), 1))
        b_shrink = tl.exp(b_max - b_next)
        b_weights = tl.where(b_occupied, tl.exp(b_logits - b_next[:, None, :]), 0.0)
        b_sum = b_sum * b_shrink + tl.sum(b_weights, 1)
        b_overlap = b_overlap * b_shrink + tl.sum(b_weights * b_upstream, 1)
        b_max = b_next
    b_sum = tl.where(b_sum > 0, b_sum, 1.0)
    return b_max + tl.log(b_sum), b_overlap / b_sum


@triton.jit(do_not_specialize=["T", "L", "chunk"])
def key_overlap(
    p_x, p_y, p_g, p_right, p_p, p_w, p_mask, p_normaliser, p_partial, s_x, s_y, s_g, s_right, s_mask,
    scale, T, L, chunk, G: tl.constexpr, H: tl.constexpr, D: tl.constexpr, E: tl.constexpr, BH:
    tl.constexpr, BD: tl.constexpr, BE: tl.constexpr, BT: tl.constexpr, BL: tl.constexpr, BX:
    tl.constexpr, INDEX: tl.constexpr, PRECISION: tl.constexpr, RIGHT: tl.constexpr,
):  # fmt: skip
    """The overlap of the key factor over one chunk of tokens: (B, chunks, H, L)."""
    place, b, b_landmarks, start, stop = slice_and_chunk(T, L, chunk, BL)
    b_p, b_w_back = load_mixing(p_p, False, b, G, H, BH, BX), load_mixing(p_w, True, b, G, H, BH, BX)
    b_y = load_rows(p_y, s_y, b, b_landmarks, L, G, H, D, BH, BD, INDEX)  # (BH, BL, BD)
    b_right = load_rows(p_right, s_right, b, b_landmarks, L, G, H, E, BH, BE, INDEX).to(RIGHT)
    b_normaliser = load_statistic(p_normaliser + b * H * L, b_landmarks, L, H, BH)  # (BL, BH)
    b_overlap = tl.zeros((BL, BH), tl.float32)
    for t in range(start, stop, BT):
        b_tokens = t + tl.arange(0, BT)
        b_x = load_rows(p_x, s_x, b, b_tokens, T, G, H, D, BH, BD, INDEX)  # (BH, BT, BD)
        b_g = load_rows(p_g, s_g, b, b_tokens, T, G, H, E, BH, BE, INDEX).to(RIGHT)  # (BH, BT, BE)
        b_valid = load_valid(p_mask, s_mask, b // G, b_tokens, T)
        b_logits = mix(raw_logits(b_x, b_y, scale, False, PRECISION), b_p, PRECISION)  # (BT, BL, BH)
        b_weights = weights_of(b_logits, b_normaliser, b_valid, b_landmarks < L, True)
        b_upstream = mix(raw_logits(b_g, b_right, 1.0, False, PRECISION), b_w_back, PRECISION)
        b_overlap += tl.sum(b_weights * b_upstream, 0)
    store_statistic(p_partial + place * H * L, b_overlap, b_landmarks, L, H, BH)


@triton.jit(do_not_specialize=["T", "L"])
def token_gradients(
    p_x, p_y, p_g, p_right, p_p, p_w, p_mask, p_normaliser, p_overlap, p_grad, s_x, s_y, s_g, s_right,
    s_mask, scale, T, L, KEY: tl.constexpr, G: tl.constexpr, H: tl.constexpr, D: tl.constexpr, E:
    tl.constexpr, BH: tl.constexpr, BD: tl.constexpr, BE: tl.constexpr, BT: tl.constexpr, BL:
    tl.constexpr, BX: tl.constexpr, INDEX: tl.constexpr, PRECISION: tl.constexpr, RIGHT: tl.constexpr,
    GRAD: tl.constexpr,
):  # fmt: skip
    """dQ or dK of one tile of tokens: (B, H, T, D). Of queries also their statistics: (B, H, N) each."""
    tiles = tl.cdiv(T, BT)
    b = (tl.program_id(0) // tiles).to(tl.int64)
    b_tokens = tl.program_id(0) % tiles * BT + tl.arange(0, BT)
    b_p, b_p_back = load_mixing(p_p, False, b, G, H, BH, BX), load_mixing(p_p, True, b, G, H, BH, BX)
    b_w_back = load_mixing(p_w, True, b, G, H, BH, BX)
    b_x = load_rows(p_x, s_x, b, b_tokens, T, G, H, D, BH, BD, INDEX)  # (BH, BT, BD)
    b_g = load_rows(p_g, s_g, b, b_tokens, T, G, H, E, BH, BE, INDEX).to(RIGHT)  # (BH, BT, BE)
    if KEY:
        b_valid = load_valid(p_mask, s_mask, b // G, b_tokens, T)
    else:
        b_valid = b_tokens < T
        b_normaliser, b_overlap = query_overlap(
            b_x, b_g, p_y, p_right, b_p, b_w_back, p_mask, s_y, s_right, s_mask, scale, b, L, G, H, D, E, BD,
            BE, BL, INDEX, PRECISION, RIGHT,
        )  # fmt: skip
        store_statistic(p_normaliser + b * H * T, b_normaliser, b_tokens, T, H, BH)
        store_statistic(p_overlap + b * H * T, b_overlap, b_tokens, T, H, BH)
    b_sum = tl.zeros((BH, BT, BD), tl.float32)
    for start in range(0, L, BL):
        b_landmarks = start + tl.arange(0, BL)
        b_y = load_rows(p_y, s_y, b, b_landmarks, L, G, H, D, BH, BD, INDEX)  # (BH, BL, BD)
        b_right = load_rows(p_right, s_right, b, b_landmarks, L, G, H, E, BH, BE, INDEX).to(
            RIGHT
        )  # (BH, BL, BE)
        if KEY:
            b_occupied = b_landmarks < L
            b_normaliser = load_statistic(p_normaliser + b * H * L, b_landmarks, L, H, BH)  # (BL, BH)
            b_overlap = load_statistic(p_overlap + b * H * L, b_landmarks, L, H, BH)
        else:
            b_occupied = load_valid(p_mask, s_mask, b // G, b_landmarks, L)
        b_logits = mix(raw_logits(b_x, b_y, scale, True, PRECISION), b_p, PRECISION)  # (BT, BL, BH)
        b_weights = weights_of(b_logits, b_normaliser, b_valid, b_occupied, KEY)
        b_upstream = mix(raw_logits(b_g, b_right, 1.0, True, PRECISION), b_w_back, PRECISION)
        b_grad = mix(b_weights * (b_upstream - along_softmax(b_overlap, KEY)), b_p_back, PRECISION)
        b_sum = by_token(b_grad.to(GRAD), b_y.to(GRAD), b_sum, PRECISION)
    store_rows(p_grad + b * H * T * D, b_sum * scale, b_tokens, T, H, D, BH, BD, INDEX)


@triton.jit(do_not_specialize=["T", "L", "chunk"])
def landmark_gradients(
    p_x, p_y, p_g, p_right, p_p, p_w, p_mask, p_normaliser, p_overlap, p_partial, p_grad_p, p_grad_w,
    s_x, s_y, s_g, s_right, s_mask, scale, T, L, chunk, KEY: tl.constexpr, G: tl.constexpr, H:
    tl.constexpr, D: tl.constexpr, E: tl.constexpr, BH: tl.constexpr, BD: tl.constexpr, BE:
    tl.constexpr, BT: tl.constexpr, BL: tl.constexpr, BX: tl.constexpr, GROUPS: tl.constexpr, INDEX:
    tl.constexpr, PRECISION: tl.constexpr, RIGHT: tl.constexpr, GRAD: tl.constexpr,
):  # fmt: skip
    """dQl or dKl over one chunk of tokens, (B, chunks, H, L, D); dP and dW of each program, (BX, BX)."""
    place, b, b_landmarks, start, stop = slice_and_chunk(T, L, chunk, BL)
    b_p, b_p_back = load_mixing(p_p, False, b, G, H, BH, BX), load_mixing(p_p, True, b, G, H, BH, BX)
    b_w_back = load_mixing(p_w, True, b, G, H, BH, BX)
    b_y = load_rows(p_y, s_y, b, b_landmarks, L, G, H, D, BH, BD, INDEX)  # (BH, BL, BD)
    b_right = load_rows(p_right, s_right, b, b_landmarks, L, G, H, E, BH, BE, INDEX).to(RIGHT)
    if KEY:
        b_occupied = b_landmarks < L
        b_normaliser = load_statistic(p_normaliser + b * H * L, b_landmarks, L, H, BH)  # (BL, BH)
        b_overlap = load_statistic(p_overlap + b * H * L, b_landmarks, L, H, BH)
    else:
        b_occupied = load_valid(p_mask, s_mask, b // G, b_landmarks, L)
    b_sum = tl.zeros((BH, BL, BD), tl.float32)
    b_grad_p = tl.zeros((GROUPS, BX, BX), tl.float32)
    b_grad_w = tl.zeros((GROUPS, BX, BX), tl.float32)
    for t in range(start, stop, BT):
        b_tokens = t + tl.arange(0, BT)
        b_x = load_rows(p_x, s_x, b, b_tokens, T, G, H, D, BH, BD, INDEX)  # (BH, BT, BD)
        if KEY:
            b_valid = load_valid(p_mask, s_mask, b // G, b_tokens, T)
        else:
            b_valid = b_tokens < T
            b_normaliser = load_statistic(p_normaliser + b * H * T, b_tokens, T, H, BH)  # (BT, BH)
            b_overlap = load_statistic(p_overlap + b * H * T, b_tokens, T, H, BH)
        b_raw = raw_logits(b_x, b_y, scale, False, PRECISION)  # (BT, BL, BH)
        b_weights = weights_of(mix(b_raw, b_p, PRECISION), b_normaliser, b_valid, b_occupied, KEY)
        b_g = load_rows(p_g, s_g, b, b_tokens, T, G, H, E, BH, BE, INDEX).to(RIGHT)  # (BH, BT, BE)
        b_grad_factor = raw_logits(b_g, b_right, 1.0, False, PRECISION)
        if p_grad_w is not None:
            b_grad_w = between_heads(b_grad_factor, b_weights, b_grad_w, PRECISION)
        b_upstream = mix(b_grad_factor, b_w_back, PRECISION)
        b_grad = b_weights * (b_upstream - along_softmax(b_overlap, KEY))
        if p_grad_p is not None:
            b_grad_p = between_heads(b_grad, b_raw, b_grad_p, PRECISION)
        if p_partial is not None:
            b_grad = mix(b_grad, b_p_back, PRECISION)
            b_sum = by_landmark(b_grad.to(GRAD), b_x.to(GRAD), b_sum, PRECISION)
    if p_partial is not None:
        store_rows(p_partial + place * H * L * D, b_sum * scale, b_landmarks, L, H, D, BH, BD, INDEX)
    b_i, b_j = tl.arange(0, BX)[:, None], tl.arange(0, BX)[None, :]
    program = tl.program_id(0).to(tl.int64) * BX * BX
    if p_grad_p is not None:
        tl.store(p_grad_p + program + b_i * BX + b_j, tl.sum(b_grad_p, 0))
    if p_grad_w is not None:
        tl.store(p_grad_w + program + b_i * BX + b_j, tl.sum(b_grad_w, 0))

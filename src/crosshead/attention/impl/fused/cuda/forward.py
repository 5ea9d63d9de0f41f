"""Triton kernels of the forward pass, and the two products that the backward pass shares with it.

Legend: see `tile.py`. `KEY` says which factor: of queries (softmax over landmarks), or of keys (softmax over
tokens, whose normaliser must be known before heads mix, hence a pass of its own).

Programs that add over tokens each take one slice of landmarks and one chunk of tokens and write a partial
sum; another kernel adds the partial sums in order. So results are the same in every run.
"""

# Triton's compiler, and no type checker, knows which constants and ranges a kernel may be given.
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false
import triton
import triton.language as tl

from crosshead.attention.impl.fused.cuda.tile import (
    MASKED,
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
def slice_and_chunk(T, L, chunk, BL: tl.constexpr):
    """Which landmarks and tokens are this program's; slices of one chunk run side by side."""
    slices, chunks = tl.cdiv(L, BL), tl.cdiv(T, chunk)
    program = tl.program_id(0)
    c = program // slices % chunks
    b_landmarks = program % slices * BL + tl.arange(0, BL)
    # (sample, chunk) in the order of partial sums; sample; landmarks; first token, one past the last
    b = (program // slices // chunks).to(tl.int64)
    return b * chunks + c, b, b_landmarks, c * chunk, tl.minimum(c * chunk + chunk, T)


@triton.jit(do_not_specialize=["T", "L", "chunk"])
def key_statistics(
    p_x, p_y, p_p, p_mask, p_max, p_sum, s_x, s_y, s_mask, scale, T, L, chunk, G: tl.constexpr, H:
    tl.constexpr, D: tl.constexpr, BH: tl.constexpr, BD: tl.constexpr, BT: tl.constexpr, BL:
    tl.constexpr, BX: tl.constexpr, INDEX: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Largest logit and sum of exponentials of one chunk of keys: (B, chunks, H, L)."""
    place, b, b_landmarks, start, stop = slice_and_chunk(T, L, chunk, BL)
    b_p = load_mixing(p_p, False, b, G, H, BH, BX)
    b_y = load_rows(p_y, s_y, b, b_landmarks, L, G, H, D, BH, BD, INDEX)  # (BH, BL, BD)
    b_max = tl.full((BL, BH), MASKED, tl.float32)
    b_sum = tl.zeros((BL, BH), tl.float32)
    for t in range(start, stop, BT):
        b_tokens = t + tl.arange(0, BT)
        b_x = load_rows(p_x, s_x, b, b_tokens, T, G, H, D, BH, BD, INDEX)  # (BH, BT, BD)
        b_valid = load_valid(p_mask, s_mask, b // G, b_tokens, T)[:, None, None]
        b_logits = mix(raw_logits(b_x, b_y, scale, False, PRECISION), b_p, PRECISION)  # (BT, BL, BH)
        b_next = tl.maximum(b_max, tl.max(tl.where(b_valid, b_logits, MASKED), 0))
        b_weights = tl.where(b_valid, tl.exp(b_logits - b_next[None, :, :]), 0.0)
        b_sum = b_sum * tl.exp(b_max - b_next) + tl.sum(b_weights, 0)
        b_max = b_next
    store_statistic(p_max + place * H * L, b_max, b_landmarks, L, H, BH)
    store_statistic(p_sum + place * H * L, b_sum, b_landmarks, L, H, BH)


@triton.jit(do_not_specialize=["count", "chunks"])
def combine_statistics(p_max, p_sum, p_normaliser, count, chunks, BLOCK: tl.constexpr):
    """Log-normaliser of all chunks from (B, chunks, count): (B, count)."""
    blocks = tl.cdiv(count, BLOCK)
    b = (tl.program_id(0) // blocks).to(tl.int64)
    b_places = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    inside = b_places < count
    b_max = tl.full((BLOCK,), MASKED, tl.float32)
    b_sum = tl.zeros((BLOCK,), tl.float32)
    for c in range(chunks):
        places = (b * chunks + c) * count + b_places
        b_other = tl.load(p_max + places, mask=inside, other=MASKED)
        b_next = tl.maximum(b_max, b_other)
        b_more = tl.load(p_sum + places, mask=inside, other=0.0) * tl.exp(b_other - b_next)
        b_sum = b_sum * tl.exp(b_max - b_next) + b_more
        b_max = b_next
    # Where no key takes part the logarithm has no meaning, and no weight will be read.
    b_normaliser = b_max + tl.log(tl.where(b_sum > 0, b_sum, 1.0))
    tl.store(p_normaliser + b * count + b_places, b_normaliser, mask=inside)


@triton.jit(do_not_specialize=["T", "L", "chunk"])
def aggregate(
    p_x, p_y, p_v, p_p, p_w, p_mask, p_normaliser, p_partial, s_x, s_y, s_v, s_mask, scale, enlarged, T,
    L, chunk, KEY: tl.constexpr, G: tl.constexpr, H: tl.constexpr, D: tl.constexpr, E: tl.constexpr, BH:
    tl.constexpr, BD: tl.constexpr, BE: tl.constexpr, BT: tl.constexpr, BL: tl.constexpr, BX:
    tl.constexpr, INDEX: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """`F^T v` over one chunk of tokens: (B, chunks, H, L, E). Of keys: F_k V; of queries: F_q^T dO."""
    place, b, b_landmarks, start, stop = slice_and_chunk(T, L, chunk, BL)
    b_p, b_w = load_mixing(p_p, False, b, G, H, BH, BX), load_mixing(p_w, False, b, G, H, BH, BX)
    b_y = load_rows(p_y, s_y, b, b_landmarks, L, G, H, D, BH, BD, INDEX)  # (BH, BL, BD)
    if KEY:
        b_normaliser = load_statistic(p_normaliser + b * H * L, b_landmarks, L, H, BH)  # (BL, BH)
        b_occupied = b_landmarks < L
    else:
        b_occupied = load_valid(p_mask, s_mask, b // G, b_landmarks, L)
    b_sum = tl.zeros((BH, BL, BE), tl.float32)
    for t in range(start, stop, BT):
        b_tokens = t + tl.arange(0, BT)
        b_x = load_rows(p_x, s_x, b, b_tokens, T, G, H, D, BH, BD, INDEX)  # (BH, BT, BD)
        b_v = load_rows(p_v, s_v, b, b_tokens, T, G, H, E, BH, BE, INDEX)  # (BH, BT, BE)
        b_valid = b_tokens < T
        if KEY:
            b_valid = load_valid(p_mask, s_mask, b // G, b_tokens, T)
        else:
            b_normaliser = load_statistic(p_normaliser + b * H * T, b_tokens, T, H, BH)  # (BT, BH)
        b_logits = mix(raw_logits(b_x, b_y, scale, False, PRECISION), b_p, PRECISION)  # (BT, BL, BH)
        b_factor = mix(weights_of(b_logits, b_normaliser, b_valid, b_occupied, KEY), b_w, PRECISION)
        b_sum = by_landmark((b_factor * enlarged).to(b_v.dtype), b_v, b_sum, PRECISION)
    store_rows(p_partial + place * H * L * E, b_sum / enlarged, b_landmarks, L, H, E, BH, BE, INDEX)


@triton.jit(do_not_specialize=["count", "chunks", "L"])
def sum_partial(
    p_partial, p_mask, p_sum, s_mask, count, chunks, L, G: tl.constexpr, C: tl.constexpr, BLOCK: tl.constexpr
):
    """(B, chunks, count) added up: (B, count), each L C of which are L landmarks; masked ones become zero."""
    blocks = tl.cdiv(count, BLOCK)
    b = (tl.program_id(0) // blocks).to(tl.int64)
    b_places = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    inside = b_places < count
    b_sum = tl.zeros((BLOCK,), tl.float32)
    for c in range(chunks):
        b_sum += tl.load(p_partial + (b * chunks + c) * count + b_places, mask=inside, other=0.0)
    if p_mask is not None:
        b_landmarks = b_places // C % L
        p_landmarks = p_mask + b // G * s_mask[0] + b_landmarks.to(tl.int64) * s_mask[1]
        b_valid = tl.load(p_landmarks, mask=inside, other=0)
        b_sum = tl.where(b_valid != 0, b_sum, 0.0)
    tl.store(p_sum + b * count + b_places, b_sum.to(p_sum.dtype.element_ty), mask=inside)


@triton.jit
def query_statistics(
    b_x, p_y, b_p, p_mask, s_y, s_mask, scale, b, L, G: tl.constexpr, H: tl.constexpr, D: tl.constexpr,
    BD: tl.constexpr, BL: tl.constexpr, INDEX: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Log-normaliser of the query factor: (BT, BH)."""
    BH: tl.constexpr = b_x.shape[0]
    BT: tl.constexpr = b_x.shape[1]
    b_max = tl.full((BT, BH), MASKED, tl.float32)
    b_sum = tl.zeros((BT, BH), tl.float32)
    for start in range(0, L, BL):
        b_landmarks = start + tl.arange(0, BL)
        b_y = load_rows(p_y, s_y, b, b_landmarks, L, G, H, D, BH, BD, INDEX)  # (BH, BL, BD)
        b_occupied = load_valid(p_mask, s_mask, b // G, b_landmarks, L)[None, :, None]
        b_logits = mix(raw_logits(b_x, b_y, scale, True, PRECISION), b_p, PRECISION)  # (BT, BL, BH)
        b_next = tl.maximum(b_max, tl.max(tl.where(b_occupied, b_logits, MASKED), 1))
        b_weights = tl.where(b_occupied, tl.exp(b_logits - b_next[:, None, :]), 0.0)
        b_sum = b_sum * tl.exp(b_max - b_next) + tl.sum(b_weights, 1)
        b_max = b_next
    return b_max + tl.log(tl.where(b_sum > 0, b_sum, 1.0))


@triton.jit(do_not_specialize=["T", "L"])
def query_output(
    p_x, p_y, p_right, p_p, p_w, p_mask, p_output, s_x, s_y, s_right, s_mask, scale, T, L, SLICES:
    tl.constexpr, G: tl.constexpr, H: tl.constexpr, D: tl.constexpr, E: tl.constexpr, BH: tl.constexpr,
    BD: tl.constexpr, BE: tl.constexpr, BT: tl.constexpr, BL: tl.constexpr, BX: tl.constexpr, INDEX:
    tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """`F_q A` for one tile of queries, (B, H, N, E), with the logits of all landmarks in registers."""
    tiles = tl.cdiv(T, BT)
    b = (tl.program_id(0) // tiles).to(tl.int64)
    b_tokens = tl.program_id(0) % tiles * BT + tl.arange(0, BT)
    b_p, b_w = load_mixing(p_p, False, b, G, H, BH, BX), load_mixing(p_w, False, b, G, H, BH, BX)
    b_x = load_rows(p_x, s_x, b, b_tokens, T, G, H, D, BH, BD, INDEX)  # (BH, BT, BD)
    b_max = tl.full((BT, BH), MASKED, tl.float32)
    held = ()
    for i in tl.static_range(SLICES):
        b_landmarks = i * BL + tl.arange(0, BL)
        b_y = load_rows(p_y, s_y, b, b_landmarks, L, G, H, D, BH, BD, INDEX)  # (BH, BL, BD)
        b_logits = mix(raw_logits(b_x, b_y, scale, True, PRECISION), b_p, PRECISION)  # (BT, BL, BH)
        b_occupied = load_valid(p_mask, s_mask, b // G, b_landmarks, L)[None, :, None]
        b_logits = tl.where(b_occupied, b_logits, MASKED)
        b_max = tl.maximum(b_max, tl.max(b_logits, 1))
        held = held + (b_logits,)  # noqa: RUF005
    b_total = tl.zeros((BT, BH), tl.float32)
    weights = ()
    for i in tl.static_range(SLICES):
        b_occupied = load_valid(p_mask, s_mask, b // G, i * BL + tl.arange(0, BL), L)[None, :, None]
        b_weights = tl.where(b_occupied, tl.exp(held[i] - b_max[:, None, :]), 0.0)
        b_total += tl.sum(b_weights, 1)
        weights = weights + (b_weights,)  # noqa: RUF005
    b_total = 1.0 / tl.where(b_total > 0, b_total, 1.0)
    b_sum = tl.zeros((BH, BT, BE), tl.float32)
    for i in tl.static_range(SLICES):
        b_landmarks = i * BL + tl.arange(0, BL)
        # (BH, BL, BE)
        b_right = load_rows(p_right, s_right, b, b_landmarks, L, G, H, E, BH, BE, INDEX)
        b_factor = mix(weights[i] * b_total[:, None, :], b_w, PRECISION)
        b_sum = by_token(b_factor.to(b_x.dtype), b_right, b_sum, PRECISION)
    store_rows(p_output + b * H * T * E, b_sum, b_tokens, T, H, E, BH, BE, INDEX)


@triton.jit(do_not_specialize=["T", "L"])
def output(
    p_x, p_y, p_right, p_p, p_w, p_mask, p_normaliser, p_output, s_x, s_y, s_right, s_mask, scale,
    enlarged, T, L, KEY: tl.constexpr, G: tl.constexpr, H: tl.constexpr, D: tl.constexpr, E:
    tl.constexpr, BH: tl.constexpr, BD: tl.constexpr, BE: tl.constexpr, BT: tl.constexpr, BL:
    tl.constexpr, BX: tl.constexpr, INDEX: tl.constexpr, PRECISION: tl.constexpr, RIGHT: tl.constexpr,
):  # fmt: skip
    """`F right` for one tile of tokens: (B, H, T, E). Of queries: F_q A; of keys: F_k^T dA = dV."""
    tiles = tl.cdiv(T, BT)
    b = (tl.program_id(0) // tiles).to(tl.int64)
    b_tokens = tl.program_id(0) % tiles * BT + tl.arange(0, BT)
    b_p, b_w = load_mixing(p_p, False, b, G, H, BH, BX), load_mixing(p_w, False, b, G, H, BH, BX)
    b_x = load_rows(p_x, s_x, b, b_tokens, T, G, H, D, BH, BD, INDEX)  # (BH, BT, BD)
    b_valid = b_tokens < T
    if KEY:
        b_valid = load_valid(p_mask, s_mask, b // G, b_tokens, T)
    else:
        b_normaliser = query_statistics(
            b_x, p_y, b_p, p_mask, s_y, s_mask, scale, b, L, G, H, D, BD, BL, INDEX, PRECISION
        )
    b_sum = tl.zeros((BH, BT, BE), tl.float32)
    for start in range(0, L, BL):
        b_landmarks = start + tl.arange(0, BL)
        b_y = load_rows(p_y, s_y, b, b_landmarks, L, G, H, D, BH, BD, INDEX)  # (BH, BL, BD)
        b_right = load_rows(p_right, s_right, b, b_landmarks, L, G, H, E, BH, BE, INDEX).to(
            RIGHT
        )  # (BH, BL, BE)
        b_logits = mix(raw_logits(b_x, b_y, scale, True, PRECISION), b_p, PRECISION)  # (BT, BL, BH)
        b_occupied = b_landmarks < L
        if KEY:
            b_normaliser = load_statistic(p_normaliser + b * H * L, b_landmarks, L, H, BH)  # (BL, BH)
        else:
            b_occupied = load_valid(p_mask, s_mask, b // G, b_landmarks, L)
        b_weights = weights_of(b_logits, b_normaliser, b_valid, b_occupied, KEY)
        b_factor = (mix(b_weights, b_w, PRECISION) * enlarged).to(b_x.dtype)
        b_sum = by_token(b_factor.to(RIGHT), b_right, b_sum, PRECISION)
    p_output += b * H * T * E
    store_rows(p_output, b_sum / enlarged, b_tokens, T, H, E, BH, BE, INDEX)

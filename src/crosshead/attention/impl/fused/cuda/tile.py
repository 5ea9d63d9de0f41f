"""One tile of a factor, with all its heads: what every kernel does to it. Triton device functions.

Legend: `B` batch, `G` groups of heads that talk, `H` heads of a group, `N` query tokens, `M` key tokens,
`L` landmarks, `D` head dim, `E` value head dim; `P` and `W` the residual matrices of logit and weight mixing.
`p_` is a pointer, `s_` the strides of what it points to, `b_` a block in registers: `BH` heads by `BT` tokens
by `BL` landmarks. A sample `b` is one group of heads of one sample of the batch.

Both factors are the same function of tokens x (queries or keys) and landmarks y, and differ in the axis of
the softmax: landmarks for the query factor, tokens for the key factor. A tile is `(BT, BL, BH)`, heads last,
so that mixing is a product from the right by a matrix of heads:

    X = scale * x y^T        S = X + X P^T        w = exp(S - normaliser)        F = w + w W^T

With fewer than 16 heads a row of that product holds the heads of several landmarks, and the matrix stands
repeated on a diagonal: tensor cores want sides of 16, and padded heads would be padded work.
"""

import triton
import triton.language as tl

from crosshead.attention.impl.precision import MASKED_LOGIT

MASKED = tl.constexpr(MASKED_LOGIT)


@triton.jit
def load_rows(
    p, s, b, b_rows, count, G: tl.constexpr, H: tl.constexpr, C: tl.constexpr, BH: tl.constexpr, BC:
    tl.constexpr, INDEX: tl.constexpr,
):  # fmt: skip
    """Rows of all heads of a sample, zeros outside: (BH, rows, BC). `s` are strides of (B, G H, rows, C)."""
    p += b // G * s[0] + b % G * H * s[1]
    b_heads, b_columns = tl.arange(0, BH), tl.arange(0, BC)
    inside = (b_heads < H)[:, None, None] & (b_rows < count)[None, :, None] & (b_columns < C)[None, None, :]
    offsets = (
        b_heads.to(INDEX)[:, None, None] * s[1]
        + b_rows.to(INDEX)[None, :, None] * s[2]
        + b_columns.to(INDEX)[None, None, :] * s[3]
    )
    return tl.load(p + offsets, mask=inside, other=0.0)


@triton.jit
def store_rows(
    p, b_x, b_rows, count, H: tl.constexpr, C: tl.constexpr, BH: tl.constexpr, BC: tl.constexpr, INDEX:
    tl.constexpr,
):  # fmt: skip
    """(BH, rows, BC) into contiguous (H, count, C)."""
    b_heads, b_columns = tl.arange(0, BH), tl.arange(0, BC)
    inside = (b_heads < H)[:, None, None] & (b_rows < count)[None, :, None] & (b_columns < C)[None, None, :]
    b_places = b_heads.to(INDEX)[:, None, None] * count + b_rows[None, :, None]
    tl.store(p + b_places * C + b_columns[None, None, :], b_x.to(p.dtype.element_ty), mask=inside)


@triton.jit
def load_statistic(p, b_rows, count, H: tl.constexpr, BH: tl.constexpr):
    """(rows, BH) out of contiguous (H, count), zeros outside."""
    b_heads = tl.arange(0, BH)
    inside = (b_rows < count)[:, None] & (b_heads < H)[None, :]
    return tl.load(p + b_heads.to(tl.int64)[None, :] * count + b_rows[:, None], mask=inside, other=0.0)


@triton.jit
def store_statistic(p, b_x, b_rows, count, H: tl.constexpr, BH: tl.constexpr):
    """(rows, BH) into contiguous (H, count)."""
    b_heads = tl.arange(0, BH)
    inside = (b_rows < count)[:, None] & (b_heads < H)[None, :]
    tl.store(p + b_heads.to(tl.int64)[None, :] * count + b_rows[:, None], b_x, mask=inside)


@triton.jit
def load_valid(p_mask, s_mask, b, b_rows, count):
    """Which rows exist and take part."""
    b_valid = b_rows < count
    if p_mask is not None:
        p_rows = p_mask + b * s_mask[0] + b_rows.to(tl.int64) * s_mask[1]
        b_valid &= tl.load(p_rows, mask=b_valid, other=0) != 0
    return b_valid


@triton.jit
def load_mixing(
    p, TRANSPOSED: tl.constexpr, b, G: tl.constexpr, H: tl.constexpr, BH: tl.constexpr, BX: tl.constexpr
):
    """(BX, BX), for products from the right: R^T, or R for the way back, BX / BH times on the diagonal."""
    if p is None:
        return None
    else:  # noqa: RET505
        return _load_matrix(p + b % G * H * H, TRANSPOSED, H, BH, BX)


@triton.jit
def _load_matrix(p, TRANSPOSED: tl.constexpr, H: tl.constexpr, BH: tl.constexpr, BX: tl.constexpr):
    b_i, b_j = tl.arange(0, BX)[:, None], tl.arange(0, BX)[None, :]
    inside = (b_i // BH == b_j // BH) & (b_i % BH < H) & (b_j % BH < H)
    if TRANSPOSED:
        offsets = (b_i % BH) * H + b_j % BH
    else:
        offsets = (b_j % BH) * H + b_i % BH
    return tl.load(p + offsets, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def dot(b_a, b_b, b_sum, PRECISION: tl.constexpr):
    """`b_sum + a b`, summed in float32; operands of float32 as PRECISION says.

    For "tf32" tensor cores read eleven significant bits and drop the others. Rounding to these bits first
    halves the error and takes its bias away.
    """
    if PRECISION == "tf32" and b_a.dtype == tl.float32:
        b_a, b_b = nearest_tf32(b_a), nearest_tf32(b_b)
    return tl.dot(b_a, b_b, b_sum, input_precision=PRECISION)


@triton.jit
def nearest_tf32(b_x):
    """Float32 rounded to eleven significant bits, ties away from zero; NaN, which would wrap, stays NaN."""
    b_bits = b_x.to(tl.uint32, bitcast=True)
    return tl.where(b_x == b_x, ((b_bits + 0x1000) & 0xFFFFE000).to(tl.float32, bitcast=True), b_x)


@triton.jit
def mix(b_x, b_mixing, PRECISION: tl.constexpr):
    """`y_g = x_g + sum_h R[g, h] x_h` on (BT, BL, BH)."""
    if b_mixing is None:
        return b_x
    else:  # noqa: RET505
        BX: tl.constexpr = b_mixing.shape[0]
        b_flat = tl.reshape(b_x, (b_x.numel // BX, BX))
        # Added at the end: tensor cores round towards zero, and what a head holds already shall stay exact.
        b_others = dot(b_flat, b_mixing, tl.zeros(b_flat.shape, tl.float32), PRECISION)
        return b_x + tl.reshape(b_others, b_x.shape)


@triton.jit
def raw_logits(b_x, b_y, scale, TOKENS_STAY: tl.constexpr, PRECISION: tl.constexpr):
    """`scale x y^T` of (BH, BT, BD) and (BH, BL, BD): (BT, BL, BH).

    Without tensor cores what stays the same in the loop around must stand on the right, or it fills the
    registers.
    """
    if TOKENS_STAY and PRECISION == "ieee":
        b_zero = tl.zeros((b_x.shape[0], b_y.shape[1], b_x.shape[1]), tl.float32)
        b_logits = tl.permute(dot(b_y, tl.permute(b_x, (0, 2, 1)), b_zero, PRECISION), (2, 1, 0))
    else:
        b_zero = tl.zeros((b_x.shape[0], b_x.shape[1], b_y.shape[1]), tl.float32)
        b_logits = tl.permute(dot(b_x, tl.permute(b_y, (0, 2, 1)), b_zero, PRECISION), (1, 2, 0))
    return b_logits * scale


@triton.jit
def by_token(b_tile, b_y, b_sum, PRECISION: tl.constexpr):
    """`b_sum + tile y`, summed over landmarks: (BH, BT, C)."""
    return dot(tl.permute(b_tile, (2, 0, 1)), b_y, b_sum, PRECISION)


@triton.jit
def by_landmark(b_tile, b_x, b_sum, PRECISION: tl.constexpr):
    """`b_sum + tile^T x`, summed over tokens: (BH, BL, C)."""
    return dot(tl.permute(b_tile, (2, 1, 0)), b_x, b_sum, PRECISION)


@triton.jit
def weights_of(b_logits, b_normaliser, b_tokens, b_landmarks, KEY: tl.constexpr):
    """`exp(S - normaliser)`, zero outside. The normaliser is (BL, BH) of the key factor, else (BT, BH)."""
    if KEY:
        return tl.where(b_tokens[:, None, None], tl.exp(b_logits - b_normaliser[None, :, :]), 0.0)
    else:  # noqa: RET505
        return tl.where(b_landmarks[None, :, None], tl.exp(b_logits - b_normaliser[:, None, :]), 0.0)


@triton.jit
def along_softmax(b_x, KEY: tl.constexpr):
    """A number for each softmax, (BL, BH) of the key factor, else (BT, BH), made to broadcast over a tile."""
    if KEY:
        return b_x[None, :, :]
    else:  # noqa: RET505
        return b_x[:, None, :]


@triton.jit
def between_heads(b_a, b_b, b_sum, PRECISION: tl.constexpr):
    """`b_sum` plus products of the heads of a with those of b, rows in groups: (groups, BX, BX)."""
    GROUPS: tl.constexpr = b_sum.shape[0]
    BX: tl.constexpr = b_sum.shape[1]
    ROWS: tl.constexpr = b_a.numel // (GROUPS * BX)
    b_a = tl.permute(tl.reshape(b_a, (GROUPS, ROWS, BX)), (0, 2, 1))
    return dot(b_a, tl.reshape(b_b, (GROUPS, ROWS, BX)), b_sum, PRECISION)

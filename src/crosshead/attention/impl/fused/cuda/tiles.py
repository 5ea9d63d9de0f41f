"""How large the tiles of each kernel are, how many warps share one, and in which precision they multiply.

Everything is chosen so that shared memory fits the 163 KiB of sm_80 as well as the 227 KiB of sm_90 and
registers do not spill, as the compiler says for the published configurations. Which of the tiles that fit is
fastest was not measured: the choice is to be tuned on a GPU.
"""

from dataclasses import dataclass

import torch

# "ieee" multiplies float32 without tensor cores. On them it takes three products, and errors then leave their
# budget by up to a third. Half-precision inputs meet float32 in mixing, where eleven bits are enough.
PRECISION = {torch.float32: "ieee", torch.bfloat16: "tf32", torch.float16: "tf32"}

# Heads, and heads times channels of one token, all padded, above which a tile of 16 tokens does not fit.
MOST_HEADS = {torch.float32: 16, torch.bfloat16: 32, torch.float16: 32}
WIDEST_TOKEN = {torch.float32: 512, torch.bfloat16: 1024, torch.float16: 1024}
WIDEST_TOKEN_OF_32_HEADS = {torch.bfloat16: 1024, torch.float16: 512}

# Logits that a program can hold beside what it adds up; without tensor cores none.
HELD = 16384


@dataclass(frozen=True, kw_only=True)
class Tile:
    """The part of a factor that one program works on at a time, with all its heads.

    Attributes:
        tokens: tokens of a tile; tensor cores want 16 of everything, and so does the rest.
        landmarks: landmarks of a tile.
        warps: warps that share it.
        stages: tiles of inputs on their way or in use; with 1 the next one is loaded when the last is done.
        separate: whether gradients of landmarks and of matrices are launches of their own.
    """

    tokens: int = 16
    landmarks: int = 16
    warps: int = 8
    stages: int = 1
    separate: bool = False


def choose(kernel: str, *, heads: int, dim: int, dtype: torch.dtype) -> Tile:
    """The tile of a kernel.

    Args:
        kernel: the name of the kernel function.
        heads: heads, padded to a power of two.
        dim: the larger of the head dims of queries and values, padded to a power of two of at least 16.
        dtype: of the inputs.
    """
    if dtype == torch.float32:
        return Tile(warps=16 if kernel == "aggregate" else 8, separate=heads > 16)
    narrow = heads <= 8 and heads * dim <= 512
    most_at_once = kernel == "landmark_gradients"
    return Tile(
        tokens=32 if narrow and not most_at_once else 16,
        stages=1 if most_at_once or heads > 16 or dim > 64 or dtype == torch.float16 else 2,
        # Together, 16 heads of 64 channels in bfloat16 spill fifty bytes: the faster is to be measured.
        separate=not narrow,
    )


def holds(tile: Tile, *, heads: int, landmarks: int, dtype: torch.dtype) -> bool:
    """Whether a program can hold the logits of one tile of queries for all landmarks."""
    slices = -(-landmarks // tile.landmarks)
    return dtype != torch.float32 and heads * tile.tokens * slices * tile.landmarks <= HELD


def refusal(*, heads: int, dim: int, dtype: torch.dtype) -> str | None:
    """Why no tile fits, with the remedy; None where one does.

    Args:
        heads: heads, padded to a power of two.
        dim: the larger of the head dims of queries and values, padded to a power of two of at least 16.
        dtype: of the inputs.
    """
    if heads > MOST_HEADS[dtype]:
        return (
            f"there must be at most {MOST_HEADS[dtype]} heads in {dtype}, padded to a power of two; got "
            f"{heads}: use impl='streamed', or let heads talk in groups, mixing_group_size=8"
        )
    widest = (WIDEST_TOKEN_OF_32_HEADS if heads > 16 else WIDEST_TOKEN)[dtype]
    if heads * dim > widest:
        return (
            "a tile holds all heads, so heads times head dim, each padded to a power of two, must be at "
            f"most {widest} in {dtype}; got {heads} * {dim} = {heads * dim}: use impl='streamed'"
        )
    return None

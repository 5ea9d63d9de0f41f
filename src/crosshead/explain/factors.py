"""The two factors of a recorded call, formed for those tokens that are asked for.

Legend: `B` batch, `H` heads, `N` query tokens, `M` key tokens, `L` landmarks, `D` head dim, `T` tokens of a
tile; P and W mix heads.

    F_q = W(softmax_L(P(s Q Kl^T)))    (B, H, N, L)    a row needs its own token alone
    F_k = W(softmax_M(P(s Ql K^T)))    (B, H, L, M)    a column needs its own token, and the sums over all M

So after one pass over the keys for these sums, `(B, H, L)` of them, any row of F_q and any column of F_k
costs `O(L H (D + H))`, and neither factor is ever in memory as a whole.
"""

from collections.abc import Iterator
from functools import cached_property
from math import sqrt
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from crosshead.attention.grid import zero_outside
from crosshead.attention.impl.precision import MASKED_LOGIT
from crosshead.attention.mixing import HeadMixing, mix_heads

if TYPE_CHECKING:
    from crosshead.explain.call import LayerCall

Tokens = slice | list[int]

# Elements of a factor in memory at a time, B H L T; a handful of such tensors exist at once, 4 MiB each.
TILE_ELEMENTS = 2**20
SHORTEST_TILE = 64


class Factors:
    """The factors of a call, in float64 for float64 inputs and float32 for all others; without gradients.

    Args:
        call: what they are of.
        query_mixing: in place of what the query factor mixes with.
        key_mixing: in place of what the key factor mixes with.
    """

    def __init__(
        self,
        call: "LayerCall",
        *,
        query_mixing: HeadMixing | None = None,
        key_mixing: HeadMixing | None = None,
    ) -> None:
        self.call = call
        self.query_mixing = call.query_mixing if query_mixing is None else query_mixing
        self.key_mixing = call.key_mixing if key_mixing is None else key_mixing
        scale = 1 / sqrt(call.layer.head_dim)
        self.query_landmarks = call.as_computed(call.query_landmarks) * scale
        self.key_landmarks = call.as_computed(call.key_landmarks) * scale

    def query(self, tokens: Tokens) -> Tensor:
        """Rows of the query factor, `(B, H, T, L)`; those of masked tokens are zero."""
        pooling = self.call.pooling
        logits = mix_heads(self.call.queries(tokens) @ self.key_landmarks.mT, self.query_mixing.logits)
        if pooling.landmark_mask is not None:
            logits = logits.masked_fill(~pooling.landmark_mask[:, None, None], MASKED_LOGIT)
        rows = None if pooling.row_mask is None else pooling.row_mask[:, tokens]
        return zero_outside(rows, mix_heads(logits.softmax(-1), self.query_mixing.weights))

    def key(self, tokens: Tokens) -> Tensor:
        """Columns of the key factor, `(B, H, L, T)`; zero for masked tokens and for cells without a token."""
        # Where every token is masked, so is every landmark.
        weights = (self._key_logits(tokens) - self._log_sums[..., None]).exp()
        return zero_outside(self.call.pooling.landmark_mask, mix_heads(weights, self.key_mixing.weights))

    def query_tiles(self) -> list[slice]:
        """All query tokens, a few at a time."""
        return self.tiles(self.call.x.shape[1])

    def key_tiles(self) -> list[slice]:
        """All key tokens, a few at a time."""
        return self.tiles(self.call.looked_at.shape[1])

    def tiles(self, count: int) -> list[slice]:
        """So many tokens, a few at a time, so that rows or columns of a factor take 4 MiB."""
        batch, heads, landmarks, _ = self.key_landmarks.shape
        step = max(SHORTEST_TILE, TILE_ELEMENTS // max(1, batch * heads * landmarks))
        return [slice(start, min(start + step, count)) for start in range(0, count, step)]

    @cached_property
    def summaries(self) -> Tensor:
        """`F_k V`, what each landmark gathers, `(B, H, L, D)`."""
        return sum_of(self.key(tile) @ self.call.values(tile) for tile in self.key_tiles())

    def outputs(self) -> Iterator[tuple[slice, Tensor]]:
        """What the heads give, `F_q (F_k V)`, tile by tile: which tokens, and `(B, H, T, D)`."""
        for tile in self.query_tiles():
            yield tile, self.query(tile) @ self.summaries

    @cached_property
    def _log_sums(self) -> Tensor:
        """`log sum_M exp(...)` of each landmark, `(B, H, L)`."""
        parts = [self._key_logits(tile).logsumexp(-1) for tile in self.key_tiles()]
        return torch.stack(parts).logsumexp(0)

    def _key_logits(self, tokens: Tokens) -> Tensor:
        logits = mix_heads(self.query_landmarks @ self.call.keys(tokens).mT, self.key_mixing.logits)
        mask = self.call.pooling.context_mask
        return logits if mask is None else logits.masked_fill(~mask[:, None, None, tokens], MASKED_LOGIT)


def sum_of(tensors: Iterator[Tensor]) -> Tensor:
    """The sum of one tensor or more, one of which is in memory beside it."""
    total = next(tensors)
    for tensor in tensors:
        total = total + tensor
    return total

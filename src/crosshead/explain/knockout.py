"""Heads that no longer listen to each other: what a trained model does without its interaction.

Legend: `H` heads, `K` heads of a group; R is a residual matrix of mixing: head g takes `R[g, h]` of head h
beside what it holds.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from crosshead.attention.mixing import HeadMixer, Mixing
from crosshead.attention.module import InteractiveAttention
from crosshead.explain.layers import Layers, chosen_layers
from crosshead.explain.selection import head_numbers

Factor = Literal["query", "key", "both"]
Pairs = Literal["others", "all"] | Iterable[tuple[int, int]]
MATRICES = {"logits": ("logits",), "weights": ("weights",), "both": ("logits", "weights")}
MIXERS = {"query": ("query_mixing",), "key": ("key_mixing",), "both": ("query_mixing", "key_mixing")}


@contextmanager
def knock_out(
    model: nn.Module,
    layers: Layers = None,
    *,
    mixing: Mixing = "both",
    factor: Factor = "both",
    pairs: Pairs = "others",
) -> Iterator[None]:
    """Sets entries of mixing matrices to zero while the block lasts, and puts them back.

    What a model does without them, on data that it was not trained on, says whether it makes use of
    interaction. It does not say what a model would have learned without.

    The weights themselves are not written to: the layers hold other matrices in the block, and their own
    again after it, or after an error in it. So evaluate in the block, and do not train. Recordings that are
    made in the block can be asked after it.

    Args:
        model: any module that holds `InteractiveAttention`.
        layers: as for `record`; None for all.
        mixing: which matrices: "logits", "weights" or "both".
        factor: of which factor: "query", "key" or "both".
        pairs: which entries. "others", the default: all of other heads, `R[g, h]` with g != h, so that each
            head is left with its own share; "all": those on the diagonal too, which leaves the layer without
            mixing; or a list of `(g, h)`: head g no longer listens to head h.

    Yields:
        None.

    Raises:
        TypeError: if `model` is not a module, or a head is not a number.
        ValueError: if the model cannot be looked into, there is no such layer or head, two heads are of
            different groups, an option is none of those above, or the chosen layers hold no such matrix.

    Example:
        >>> import torch
        >>> from crosshead import InteractiveAttention
        >>> from crosshead.explain import knock_out
        >>> layer = InteractiveAttention(32, 4, landmarks=(2, 3)).eval()
        >>> _ = layer.key_mixing.weights.data.fill_(0.5)
        >>> x = torch.randn(1, 30, 32)
        >>> with torch.no_grad(), knock_out(layer):
        ...     alone = layer(x, grid=(5, 6))
        >>> torch.allclose(layer(x, grid=(5, 6)), alone)
        False
    """
    for name, given, known in (("mixing", mixing, MATRICES), ("factor", factor, MIXERS)):
        if given not in known:
            raise ValueError(f"{name} must be {', '.join(known)}; got {given!r}")
    chosen = chosen_layers(model, layers)
    held = [
        (getattr(layer, mixer), matrix, zeros)
        for name, layer in chosen.items()
        for zeros in [_zeros(name, layer, pairs)]
        for mixer in MIXERS[factor]
        for matrix in MATRICES[mixing]
        if getattr(getattr(layer, mixer), matrix) is not None
    ]
    if not held:
        kinds = "mixing matrices" if mixing == "both" else f"matrices that mix {mixing}"
        raise ValueError(f"layers must hold {kinds} to be knocked out; {', '.join(chosen)} hold none")
    before = [(mixer, matrix, getattr(mixer, matrix)) for mixer, matrix, _ in held]
    try:
        for (mixer, matrix, zeros), (_, _, weight) in zip(held, before, strict=True):
            other = weight.detach().masked_fill(_as_held(zeros, mixer).to(weight.device), 0)
            mixer.register_parameter(matrix, nn.Parameter(other, requires_grad=weight.requires_grad))
        yield
    finally:
        for mixer, matrix, weight in before:
            mixer.register_parameter(matrix, weight)


def _zeros(name: str, layer: InteractiveAttention, pairs: Pairs) -> Tensor:
    """Which entries of `(H, H)` become zero, bool."""
    heads = layer.num_heads
    if isinstance(pairs, str):
        if pairs not in ("others", "all"):
            raise ValueError(f"pairs must be 'others', 'all' or a list of two heads each; got {pairs!r}")
        return torch.ones(heads, heads, dtype=torch.bool) if pairs == "all" else ~torch.eye(heads).bool()
    zeros = torch.zeros(heads, heads, dtype=torch.bool)
    size = layer.query_mixing.group_size
    for pair in pairs:
        if len(numbers := head_numbers(pair, heads)) != 2:
            raise ValueError(f"pairs must be a list of two heads each; got {pair}")
        g, h = numbers
        if g // size != h // size:
            raise ValueError(f"heads {g} and {h} of layer {name!r} do not talk: groups are of {size} heads")
        zeros[g, h] = True
    return zeros


def _as_held(entries: Tensor, mixer: HeadMixer) -> Tensor:
    """`(H, H)` in the shape of a mixer's matrices: `(H, H)`, or `(H / K, K, K)` of groups."""
    size = mixer.group_size
    if size == mixer.num_heads:
        return entries
    return torch.stack([entries[n : n + size, n : n + size] for n in range(0, mixer.num_heads, size)])

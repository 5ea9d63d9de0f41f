"""Attention on `(B, H, N, D)` tensors, landmarks given; whatever is optional is imported when it is built."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from crosshead.attention.functional import Implementation, interactive_attention
from crosshead.attention.mixing import mix_heads
from crosshead.bench.operands import WEIGHT_SEED, Operands, Setting

Operator = Callable[[Operands], Tensor]
PLAIN = ("query", "key", "value")
LANDMARKS = (*PLAIN, "query_landmarks", "key_landmarks")
# Which operands a provider looks at, and so has gradients for; all where it is not named here.
USED = {
    "landmarks-only": LANDMARKS,
    "exact": PLAIN,
    "talking-heads": (*PLAIN, "query_logits", "query_weights"),
    "performer": PLAIN,
}


def build_operator(name: str, setting: Setting) -> Operator:
    """The operator of a provider.

    Raises:
        ImportError: If its package is not installed.
        NotImplementedError: If it cannot do what the setting asks for.
    """
    if name in ("reference", "streamed", "fused"):
        return interactive(name)  # type: ignore[arg-type]
    return _BUILDERS[name](setting)


def forget_programs() -> None:
    """Empties torch's cache of compiled programs, which falls back to plain PyTorch after some lengths."""
    torch._dynamo.reset()


def interactive(impl: Implementation) -> Operator:
    """The library's own operator in one implementation."""

    def attend(given: Operands) -> Tensor:
        query_mixing, key_mixing = given.mixings()
        return interactive_attention(
            given.query,
            given.key,
            given.value,
            query_landmarks=given.query_landmarks,
            key_landmarks=given.key_landmarks,
            query_mixing=query_mixing,
            key_mixing=key_mixing,
            impl=impl,
        )

    return attend


def dense(given: Operands, *, mixing: bool) -> Tensor:
    """Attention with the N x N map in memory, its heads mixed before and after the softmax."""
    logits = given.query @ given.key.mT * given.query.shape[-1] ** -0.5
    if not mixing:
        return logits.softmax(-1) @ given.value
    weights = mix_heads(logits, given.query_logits).softmax(-1)
    return mix_heads(weights, given.query_weights) @ given.value


def _compiled(setting: Setting) -> Operator:
    # A program for each length is the best that it can do.
    return torch.compile(interactive("reference"), dynamic=False)


def _landmarks_only(setting: Setting) -> Operator:
    def attend(given: Operands) -> Tensor:
        aggregate = scaled_dot_product_attention(given.query_landmarks, given.key, given.value)
        return scaled_dot_product_attention(given.query, given.key_landmarks, aggregate)

    return attend


def _exact(setting: Setting) -> Operator:
    return lambda given: scaled_dot_product_attention(given.query, given.key, given.value)


def _talking_heads(setting: Setting) -> Operator:
    return lambda given: dense(given, mixing=True)


def _performer(setting: Setting) -> Operator:
    from performer_pytorch import FastAttention

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(WEIGHT_SEED)
        attention = FastAttention(setting.head_dim).to(setting.device)
    return lambda given: attention(given.query, given.key, given.value)


_BUILDERS: dict[str, Callable[[Setting], Operator]] = {
    "compiled": _compiled,
    "landmarks-only": _landmarks_only,
    "exact": _exact,
    "talking-heads": _talking_heads,
    "performer": _performer,
}

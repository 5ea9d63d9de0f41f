"""Interactive multi-head self-attention with linear complexity, and the iViT backbone.

The names below are loaded when first used, so that importing the package, and with it the command line,
does not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from crosshead._extras import needs_extra
from crosshead._version import __version__

if TYPE_CHECKING:
    from crosshead.attention.functional import attention_factors, interactive_attention
    from crosshead.attention.impl.reference import AttentionFactors
    from crosshead.attention.landmarks import occupied_landmarks, pool_landmarks
    from crosshead.attention.mixing import HeadMixing
    from crosshead.attention.module import InteractiveAttention
    from crosshead.attention.sequence_parallel import own_rows, shard_tokens
    from crosshead.runs.trained import load

_HOME = {
    "AttentionFactors": "crosshead.attention.impl.reference",
    "HeadMixing": "crosshead.attention.mixing",
    "InteractiveAttention": "crosshead.attention.module",
    "attention_factors": "crosshead.attention.functional",
    "interactive_attention": "crosshead.attention.functional",
    "load": "crosshead.runs.trained",
    "occupied_landmarks": "crosshead.attention.landmarks",
    "own_rows": "crosshead.attention.sequence_parallel",
    "pool_landmarks": "crosshead.attention.landmarks",
    "shard_tokens": "crosshead.attention.sequence_parallel",
}

__all__ = [
    "AttentionFactors",
    "HeadMixing",
    "InteractiveAttention",
    "__version__",
    "attention_factors",
    "interactive_attention",
    "load",
    "occupied_landmarks",
    "own_rows",
    "pool_landmarks",
    "shard_tokens",
]


def __getattr__(name: str) -> object:
    if name in _HOME:
        with needs_extra("train", f"crosshead.{name}"):
            value = globals()[name] = getattr(import_module(_HOME[name]), name)
        return value
    raise AttributeError(f"module 'crosshead' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])

"""Counts what a rank gives to collectives, for tests of traffic and for benchmarks."""

from collections import Counter
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class CountedCollectives(TorchDispatchMode):
    """A region whose collectives are counted by their names: `all_reduce`, `allgather`, `all_to_all_single`.

    Attributes:
        calls: how often each was called.
        bytes: how much this rank gave to each.

    Example:
        >>> import torch
        >>> with CountedCollectives() as counted:
        ...     total = torch.ones(3).sum()
        >>> dict(counted.calls)
        {}
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.partition(".")[0].strip("_")
        if func.namespace in ("_c10d_functional", "c10d") and not name.startswith(("wait", "wrap")):
            # Gathering in c10d takes first where results go, then what is given.
            given = args[1] if name == "allgather" else args[0]
            self.calls[name] += 1
            self.bytes[name] += sum(x.nbytes for x in ([given] if isinstance(given, Tensor) else given))
        return func(*args, **(kwargs or {}))

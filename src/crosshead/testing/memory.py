"""What a computation allocates: exact bytes from the allocator, not pages from the operating system."""

from collections.abc import Callable
from typing import Any

from torch.profiler import ProfilerActivity, profile


def peak_allocated_bytes(computation: Callable[[], object]) -> int:
    """Runs a computation on the CPU and returns the most bytes that it held at a time.

    What was held before does not count; what the computation returns does.

    Args:
        computation: a function without arguments.

    Returns:
        Bytes at the high-water mark.

    Example:
        >>> import torch
        >>> def two_at_a_time():
        ...     x = torch.ones(1024, dtype=torch.float32)
        ...     x = x.exp()
        ...     return x.exp()
        >>> peak_allocated_bytes(two_at_a_time) // 1024
        8
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recording:
        result = computation()
    del result
    results: Any = recording.profiler and recording.profiler.kineto_results
    changes = [(event.start_ns(), event.nbytes()) for event in results.events() if event.name() == "[memory]"]
    held = peak = 0
    for _, change in sorted(changes, key=lambda pair: pair[0]):
        held += change
        peak = max(peak, held)
    return peak

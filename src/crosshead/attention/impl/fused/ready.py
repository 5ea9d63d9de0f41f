"""Whether the fused kernels can do what is asked, and if not, what would make them ready.

Nothing here compiles: an answer costs microseconds, and `torch.compile` reads through it.
"""

from importlib.util import find_spec

import torch
from torch import Tensor

from crosshead.attention.impl.fused.cpu import build

DTYPES = {
    "cpu": (torch.float32, torch.bfloat16),
    "cuda": (torch.float32, torch.bfloat16, torch.float16),
}
# Where the kernels have run for real, and `auto` may choose them. Triton's have been interpreted and
# compiled, and have not met a GPU yet: there they run only where asked for by name.
PROVEN = ("cpu",)
_TRITON = find_spec("triton") is not None


def device_refusal(device: str) -> str | None:
    """What keeps the kernels of a kind of device from running here at all, or None."""
    if device == "cpu":
        missing = build.missing()
        return None if missing is None else f"the CPU kernel is not ready: {missing}"
    if device != "cuda":
        return f"there is no kernel for {device} devices, only for cpu and cuda"
    if torch.version.hip:
        return "the GPU kernel is written for NVIDIA GPUs; this torch is built for AMD's"
    if not _TRITON:
        return "the GPU kernel needs Triton, which is not installed: pip install triton"
    return None


def refusal(query: Tensor, value: Tensor, group_size: int | None) -> str | None:
    """What keeps the kernels from computing these operands, or None.

    Args:
        query: `(B, H, N, D)`.
        value: `(B, H, M, E)`.
        group_size: heads that talk to each other; None for all.
    """
    device = query.device.type
    if reason := device_refusal(device):
        return reason
    if query.dtype not in DTYPES[device]:
        known = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES[device])
        return f"the {device} kernel computes {known}; got {str(query.dtype).removeprefix('torch.')}"
    if device == "cuda":
        from crosshead.attention.impl.fused.cuda import launch

        return launch.refusal(query, value, group_size)
    return None

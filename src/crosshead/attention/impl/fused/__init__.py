"""Fused kernels: C++ on the CPU, Triton on NVIDIA GPUs."""

from crosshead.attention.impl.fused import passes
from crosshead.attention.impl.fused.cpu import build
from crosshead.attention.impl.fused.ops import attention
from crosshead.attention.impl.fused.ready import PROVEN, device_refusal, refusal

__all__ = ["PROVEN", "attention", "device_refusal", "passes", "refusal"]

# Loading what `crosshead build` left is part of importing this: later, a tracer might be watching.
build.load_if_built()

"""Triton kernels for NVIDIA GPUs; nothing outside this folder imports triton."""

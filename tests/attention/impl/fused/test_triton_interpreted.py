"""Runs `test_triton.py` under Triton's interpreter, which no process can share with compiled kernels."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

KERNELS = Path(__file__).with_name("test_triton.py")


@pytest.mark.skipif(find_spec("triton") is None, reason="needs triton, which comes with torch for CUDA")
@pytest.mark.timeout(900)  # a process of its own that runs some hundred tests
def test_kernels_compute_the_same_as_the_dense_formula():
    command = [sys.executable, "-m", "pytest", str(KERNELS), "-q", "-m", "not slow", "-p", "no:cacheprovider"]
    run = subprocess.run(
        command,
        # Matrices this small gain nothing from threads, which wait for each other by spinning.
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        cwd=KERNELS.parents[4],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, f"{run.stdout}\n{run.stderr}"

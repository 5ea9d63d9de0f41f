"""What pytest leaves out on machines that lack an optional package, and the options of our own."""

import os
from importlib.util import find_spec

# One test process a core: threads of NumPy's products, in subprocesses too, would only wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest

collect_ignore_glob = [] if find_spec("triton") else ["src/crosshead/attention/impl/fused/cuda/*"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """How many random calls of the operator `tests/attention/test_fuzz.py` makes, and which."""
    group = parser.getgroup("random calls of the operator")
    group.addoption("--fuzz-calls", type=int, default=300, metavar="N", help="how many (300)")
    group.addoption("--fuzz-seed", type=int, default=0, metavar="SEED", help="seed of the first one (0)")

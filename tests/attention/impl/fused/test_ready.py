"""Which implementation runs: the kernels where they are ready, and where not, what would make them so."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from crosshead import interactive_attention
from crosshead.attention import functional
from crosshead.attention.impl import fused, reference, streamed
from crosshead.attention.impl.fused import ready
from crosshead.attention.impl.fused.cpu import build, trust
from crosshead.attention.operands import Operands
from crosshead.testing.inputs import make_inputs

NOT_BUILT = "it is not built: run `crosshead build`"


def call(impl: str, *, dtype: torch.dtype = torch.float32, device: str = "cpu") -> torch.Tensor:
    args, kwargs = make_inputs(dtype=dtype, device=device, requires_grad=False).arguments()
    return interactive_attention(*args, **kwargs, impl=impl)  # type: ignore[arg-type]


@pytest.fixture
def used(monkeypatch) -> list[str]:
    """The implementations that ran, in order; each computes by the equations."""
    ran = []
    equations = reference.attention
    for name, implementation in (("reference", reference), ("streamed", streamed), ("fused", fused)):

        def attention(operands: Operands, name: str = name) -> torch.Tensor:
            ran.append(name)
            return equations(operands)

        monkeypatch.setattr(implementation, "attention", attention)
    return ran


@pytest.mark.skipif(build.unsupported() is not None, reason=f"no CPU kernel here: {build.unsupported()}")
@pytest.mark.skipif(not any(map(shutil.which, build.COMPILERS)), reason="no C++ compiler here")
def test_where_the_kernel_can_be_built_its_tests_run():
    assert build.missing() is None, f"the tests of the CPU kernel were skipped: {build.missing()}"


def test_auto_uses_the_kernel_once_it_is_ready(used, monkeypatch):
    monkeypatch.setattr(build, "_missing", None)
    for dtype in (torch.float32, torch.bfloat16):
        call("auto", dtype=dtype)
    monkeypatch.setattr(functional, "STREAMED_FROM", 1)
    call("auto")
    assert used == ["fused"] * 3


def test_auto_does_without_a_kernel_that_is_not_ready(used, monkeypatch):
    monkeypatch.setattr(build, "_missing", NOT_BUILT)
    call("auto")
    monkeypatch.setattr(functional, "STREAMED_FROM", 1)
    call("auto")
    assert used == ["reference", "streamed"]


def test_fused_raises_where_the_kernel_is_not_ready_with_reason_and_remedy(used, monkeypatch):
    monkeypatch.setattr(build, "_missing", NOT_BUILT)
    with pytest.raises(NotImplementedError) as caught:
        call("fused")
    for word in ("impl='fused'", NOT_BUILT, "'auto'", "'streamed'", "'reference'"):
        assert word in str(caught.value)
    assert used == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_a_dtype_that_the_cpu_kernel_does_not_compute(used, monkeypatch, dtype):
    monkeypatch.setattr(build, "_missing", None)
    name = str(dtype).removeprefix("torch.")
    with pytest.raises(NotImplementedError, match=rf"impl='fused'.*float32, bfloat16; got {name}.*'auto'"):
        call("fused", dtype=dtype)
    assert call("auto", dtype=dtype).dtype == dtype
    assert used == ["reference"]


def test_a_device_without_a_kernel(used, monkeypatch):
    monkeypatch.setattr(build, "_missing", None)
    with pytest.raises(NotImplementedError, match=r"impl='fused'.*no kernel for meta devices.*cpu and cuda"):
        call("fused", device="meta")
    assert call("auto", device="meta").device.type == "meta"
    assert used == ["reference"]


def test_a_gpu_without_triton_names_what_to_install(monkeypatch):
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(ready, "_TRITON", False)
    assert "pip install triton" in str(ready.device_refusal("cuda"))
    monkeypatch.setattr(ready, "_TRITON", True)
    assert ready.device_refusal("cuda") is None


def test_a_gpu_of_another_maker_is_refused(monkeypatch):
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert "NVIDIA" in str(ready.device_refusal("cuda"))


def run(code: str, cache: Path) -> list[str]:
    """What a fresh process with that cache folder prints."""
    environment = {**os.environ, "CROSSHEAD_CACHE": str(cache)}
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.splitlines()


USE = """
import torch
from crosshead import InteractiveAttention
from crosshead.attention.impl.fused import device_refusal
from crosshead.attention.impl.fused.cpu import build, trust
torch.set_num_threads(1)
torch.manual_seed(0)
x = torch.randn(1, 20, 8)
for impl in ("auto", "reference"):
    torch.manual_seed(1)
    layer = InteractiveAttention(8, 2, landmarks=(3,), impl=impl)
    print(layer(x).double().sum().item())
print(device_refusal("cpu"))
"""


def test_without_triton_and_without_the_kernel_everything_else_works(tmp_path):
    code = f"import sys\nsys.modules['triton'] = None{USE}print(device_refusal('cuda'))"
    automatic, plain, cpu, cuda = run(code, tmp_path)
    assert automatic == plain
    assert "the CPU kernel is not ready" in cpu
    if build.unsupported() is None:
        assert "crosshead build" in cpu
    if torch.version.hip is None:
        assert "pip install triton" in cuda
    assert list(tmp_path.iterdir()) == []  # and nothing was compiled behind the user's back


@pytest.mark.skipif(build.unsupported() is not None, reason=f"no CPU kernel here: {build.unsupported()}")
def test_a_library_that_does_not_load_is_reported_and_not_fatal(tmp_path):
    (tmp_path / "compiled").write_bytes(b"no library")
    trust.keep(tmp_path / "compiled", tmp_path / build.library_path().name)
    automatic, plain, cpu = run(USE, tmp_path)
    assert automatic == plain
    assert "does not load" in cpu
    assert "crosshead build --force" in cpu

"""The Triton kernels compiled ahead of time, without a GPU: shared memory fits and no register spills.

What is compiled is what a call would launch: the launches of a call on tensors without storage are recorded.
"""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

triton = pytest.importorskip("triton", reason="needs triton, which comes with torch for CUDA")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("interpreted kernels cannot be compiled: unset TRITON_INTERPRET", allow_module_level=True)

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from crosshead.attention.impl.fused.cuda import launch  # noqa: E402
from crosshead.attention.mixing import matrix_shape  # noqa: E402
from crosshead.attention.operands import Operands  # noqa: E402

# What one program may use of the shared memory of a multiprocessor.
SHARED_BYTES = {80: 163 * 1024, 90: 227 * 1024}
POINTERS = {
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.bool: "*i1",
}
DIVISIBLE_BY_16 = [["tt.divisibility", 16]]

BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32
HEADLINE = (BF16, 16, 64, 64)
# dtype, heads, head dim, landmarks, and how many heads talk to each other if not all
PUBLISHED = [
    HEADLINE,
    (BF16, 8, 64, 64),
    (BF16, 24, 16, 49),
    (FP16, 16, 64, 64),
    (FP16, 8, 64, 64),
    (FP16, 24, 16, 49),
    (FP32, 8, 64, 64),
    (BF16, 32, 16, 49, 4),
    (BF16, 32, 16, 49, 8),
    (FP32, 32, 16, 49, 4),
    (FP32, 32, 16, 49, 8),
]
# Older compilers give out registers less well; there, only shared memory has to fit.
TRITON = tuple(int(part) for part in triton.__version__.split(".")[:2])
OLDER = TRITON < (3, 8)
# Tiles of 16 by 16 cannot be smaller, and these spill a little all the same, in bytes of a thread.
SPILLED = {
    (BF16, 24, 16, 49): 64,
    (FP16, 24, 16, 49): 32,
    (FP16, 16, 64, 64): 168,
    (FP32, 8, 64, 64): 16,
    (FP32, 32, 16, 49, 8): 8,
}
if TRITON == (3, 8):  # what 3.9 gives is above
    SPILLED |= {(BF16, 24, 16, 49): 192, (FP16, 24, 16, 49): 184}
# The corners of what is not refused, where shared memory must fit and a few spilled registers may be.
WIDEST = [
    (BF16, 32, 32, 196),
    (BF16, 16, 64, 196),
    (BF16, 8, 128, 196),
    (BF16, 1, 256, 196),
    (FP16, 32, 16, 196),
    (FP16, 16, 64, 196),
    (FP16, 8, 128, 196),
    (FP32, 16, 32, 196),
    (FP32, 1, 256, 49),
]


def launches(
    direction: str, dtype: torch.dtype, heads: int, dim: int, landmarks: int, group_size: int | None = None
) -> list[tuple[Any, dict]]:
    """Kernels and arguments of one forward or backward pass with both masks and all mixing."""
    found = []

    def record(kernel: Any, programs: int, **arguments: Any) -> None:
        assert programs > 0
        found.append((kernel, arguments))

    def empty(rows: int) -> Tensor:
        # As a fused projection gives them: (B, rows, H, D) through a transpose.
        return torch.empty(2, rows, heads, dim, dtype=dtype, device="meta").transpose(1, 2)

    q, k, v, grad = (empty(4096) for _ in range(4))
    ql, kl = (empty(landmarks) for _ in range(2))
    size = group_size or heads
    matrices = [torch.empty(matrix_shape(heads, size), device="meta") for _ in range(4)]
    masks = [torch.empty(2, rows, dtype=torch.bool, device="meta") for rows in (4096, landmarks)]
    operands = Operands._make((q, k, v, ql, kl, *matrices, *masks, 0.125))
    assert launch.refusal(q, v, size) is None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "_run", record)
        _, aggregate, normaliser = launch.forward(operands)
        if direction == "backward":
            found.clear()
            launch.backward(grad, operands, aggregate, normaliser)
    return found


def source_of(kernel: Any, arguments: dict[str, Any]) -> ASTSource:
    """What Triton's launcher would compile for these arguments."""
    signature, constants, attributes = {}, {}, {}

    def describe(x: Any, place: tuple[int, ...], *, specialised: bool = True) -> Any:
        if isinstance(x, tuple):
            return tuple(describe(each, (*place, i)) for i, each in enumerate(x))
        if isinstance(x, Tensor):
            attributes[place] = DIVISIBLE_BY_16
            return POINTERS[x.dtype]
        if isinstance(x, float):
            return "fp32"
        if isinstance(x, int) and not (specialised and x == 1):
            if specialised and x % 16 == 0:
                attributes[place] = DIVISIBLE_BY_16
            return "i32"
        constants[place] = x
        return "constexpr"

    for i, parameter in enumerate(kernel.params):
        x = arguments[parameter.name]
        if parameter.is_constexpr:
            constants[i,] = x
            signature[parameter.name] = "constexpr"
        else:
            signature[parameter.name] = describe(x, (i,), specialised=not parameter.do_not_specialize)
    return ASTSource(kernel, signature, constants, attributes)


def resources(kernel: Any, arguments: dict[str, Any], capability: int, folder: Path) -> dict[str, int]:
    """Bytes of shared memory of a program; registers, and bytes that spilled out of them, of a thread."""
    options = {name: arguments.pop(name) for name in ("num_warps", "num_stages") if name in arguments}
    target = GPUTarget("cuda", capability, 32)
    compiled = triton.compile(source_of(kernel, arguments), target=target, options=options)
    cubin = folder / "kernel.cubin"
    cubin.write_bytes(compiled.asm["cubin"])
    cuobjdump = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    usage = subprocess.run(
        [cuobjdump, "--dump-resource-usage", cubin], capture_output=True, text=True, check=True
    ).stdout
    found = {name: int(number) for name, number in re.findall(r"(REG|STACK|LOCAL):(\d+)", usage)}
    return {
        "shared": compiled.metadata.shared,
        "registers": found["REG"],
        "spilled": found["STACK"] + found["LOCAL"],
    }


def check(direction: str, capability: int, configuration: tuple, folder: Path, *, spilled: int) -> None:
    found = {}
    for kernel, arguments in launches(direction, *configuration):
        name = f"{len(found)} {kernel.__name__} {'of keys' if arguments.get('KEY') else ''}"
        found[name] = resources(kernel, arguments, capability, folder)
    assert {name for name, each in found.items() if each["shared"] > SHARED_BYTES[capability]} == set(), found
    assert OLDER or {name for name, each in found.items() if each["spilled"] > spilled} == set(), found


@pytest.mark.parametrize(("direction", "capability"), [("forward", 80), ("forward", 90), ("backward", 90)])
def test_the_headline_configuration_fits_and_spills_nothing(direction, capability, tmp_path):
    check(direction, capability, HEADLINE, tmp_path, spilled=0)


@pytest.mark.slow
@pytest.mark.parametrize("configuration", PUBLISHED, ids=str)
@pytest.mark.parametrize("capability", SHARED_BYTES)
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_every_published_configuration_fits_and_hardly_spills(direction, capability, configuration, tmp_path):
    check(direction, capability, configuration, tmp_path, spilled=SPILLED.get(configuration, 0))


@pytest.mark.slow
@pytest.mark.parametrize("configuration", WIDEST, ids=str)
@pytest.mark.parametrize("capability", SHARED_BYTES)
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_the_widest_that_is_not_refused_fits(direction, capability, configuration, tmp_path):
    check(direction, capability, configuration, tmp_path, spilled=10**6)


def test_wider_is_refused_with_the_remedy():
    for heads, dim, dtype in ((33, 16, BF16), (16, 65, BF16), (24, 32, FP16), (16, 64, FP32), (17, 16, FP32)):
        q = torch.empty(1, heads, 4, dim, dtype=dtype, device="meta")
        assert "streamed" in (launch.refusal(q, q, None) or ""), (heads, dim, dtype)


def test_a_new_length_is_compiled_once_for_all():
    lengths = {"T", "L", "chunk", "count", "chunks"}
    for kernel, _ in [*launches("forward", *HEADLINE), *launches("backward", *HEADLINE)]:
        assert not {p.name for p in kernel.params if p.name in lengths and not p.do_not_specialize}, kernel

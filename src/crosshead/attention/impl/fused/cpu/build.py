"""Compiles the CPU's kernel, keeps the library, and loads it.

The library is kept under a name made of everything that it depends on: the sources, torch, the compiler's
flags and the processor. So it is never stale, and machines that share a home folder keep one each. `trust`
decides what of the cache may be loaded.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch

from crosshead.attention.impl.fused.cpu import trust

FOLDER = Path(__file__).parent
SOURCE = FOLDER / "attention.cpp"
FLAGS = ("-O3", "-march=native", "-std=c++20", "-fPIC", "-shared", "-fopenmp", "-fno-math-errno")
# What torch calls a set of instructions, and the flags that choose it. With ATEN_CPU_CAPABILITY=avx2 torch
# chooses AVX2 on a processor that has AVX-512, too.
INSTRUCTIONS: dict[str, tuple[str, ...]] = {"AVX2": ("-mno-avx512f",), "AVX512": ()}
COMPILERS = ("c++", "g++", "clang++")

# What keeps the kernel from running; None once it is loaded. Worked out when the library is looked for, so
# that a tracer which reads it finds a string.
_missing: str | None = "its library has not been looked for"


def missing() -> str | None:
    """What keeps the kernel from running on this machine, with the remedy; None if nothing does."""
    return _missing


@cache
def unsupported() -> str | None:
    """Why it cannot be built for this machine, or None."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return f"it is written for x86-64 and Linux; this is {platform.machine()} and {platform.system()}"
    capability = torch.backends.cpu.get_cpu_capability()
    if capability not in INSTRUCTIONS:
        return f"it needs AVX2 or AVX-512; torch finds {capability} on this processor"
    return None


def flags() -> tuple[str, ...]:
    """The compiler's, with those that choose the set of instructions."""
    return (*FLAGS, *INSTRUCTIONS.get(torch.backends.cpu.get_cpu_capability(), ()))


def library_path() -> Path:
    """Where the library is kept: `$CROSSHEAD_CACHE`, or the user's cache folder."""
    name = f"attention-{_fingerprint()}.so"
    if folder := os.environ.get("CROSSHEAD_CACHE"):
        return Path(folder) / name
    if cache_home := os.environ.get("XDG_CACHE_HOME"):
        return Path(cache_home) / "crosshead" / name
    try:
        return Path.home() / ".cache" / "crosshead" / name
    except RuntimeError as error:
        raise OSError(
            "no home folder to keep the library in: name one in the environment variable CROSSHEAD_CACHE"
        ) from error


def load_if_built() -> None:
    """Loads the library if there is one for this machine, source and torch; never compiles, never raises."""
    global _missing
    if _missing is None:
        return
    _missing = unsupported()
    if _missing is not None:
        return
    try:
        torch.ops.load_library(trust.checked(library_path()))
        _missing = None
    except trust.Refused as error:
        _missing = str(error)
    except (OSError, RuntimeError) as error:
        _missing = f"its library does not load ({error}): run `crosshead build --force`"


def build(*, force: bool = False) -> Path:
    """Compiles the library, unless there is a good one, and loads it.

    Args:
        force: compile even if there is a good one.

    Returns:
        Where it is kept.

    Raises:
        NotImplementedError: if the machine is not supported, there is no compiler, or it fails.
        OSError: if the cache folder cannot be written, or others may write to it (`trust.Refused`).
    """
    if reason := unsupported():
        raise NotImplementedError(
            f"the CPU kernel cannot be built here: {reason}. impl='streamed' works anywhere"
        )
    path = library_path()
    trust.make_folder(path.parent)
    if force or not _is_good(path):
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            compiled = Path(folder) / path.name
            compiled.parent.chmod(0o700)  # whatever the umask took away
            _compile(compiled)
            trust.keep(compiled, path)
    load_if_built()
    if _missing is not None:
        raise NotImplementedError(f"the CPU kernel was built, but {_missing}")
    return path


def _is_good(path: Path) -> bool:
    try:
        trust.checked(path)
    except trust.Refused:
        return False
    return True


def _compile(target: Path) -> None:
    compiler = os.environ.get("CXX") or next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        raise NotImplementedError(
            "the CPU kernel needs a C++ compiler, and none is found: install g++ (on Debian and Ubuntu "
            "`apt install g++`), or name one in the environment variable CXX. impl='streamed' needs none"
        )
    root = Path(torch.__file__).parent
    includes = [root / "include", root / "include/torch/csrc/api/include"]
    command = [
        *compiler.split(),
        *flags(),
        f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}",
        *(word for folder in includes for word in ("-isystem", str(folder))),
        str(SOURCE),
        *("-o", str(target), f"-L{root / 'lib'}", "-ltorch_cpu", "-ltorch", "-lc10"),
    ]
    try:
        run = subprocess.run(command, capture_output=True, text=True, umask=0o077)
    except OSError as error:
        raise NotImplementedError(f"the C++ compiler {compiler!r} does not start: {error}") from error
    if run.returncode:
        errors = [line for line in run.stderr.splitlines() if "error" in line.lower()] or [run.stderr[-300:]]
        raise NotImplementedError(
            f"the C++ compiler {compiler!r} failed: {errors[0]}. Needed is one that knows C++20, such as g++ "
            "11"
        )


@cache
def _fingerprint() -> str:
    digest = hashlib.sha256()
    for path in sorted([*FOLDER.glob("*.h"), *FOLDER.glob("*.cpp")]):
        digest.update(path.read_bytes())
    for text in (torch.__version__, str(torch.version.git_version), *flags(), *_processor()):
        digest.update(text.encode())
    return digest.hexdigest()[:16]


def _processor() -> list[str]:
    """Model and instruction sets: `-march=native` compiles for just these."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return [platform.processor()]
    first = lines[: lines.index("")] if "" in lines else lines
    return [line for line in first if line.startswith(("model name", "flags"))]

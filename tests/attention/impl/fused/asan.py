"""Runs the CPU kernel's tests and random calls under AddressSanitizer and UndefinedBehaviorSanitizer.

    python tests/attention/impl/fused/asan.py               # build, tests, 2,400 random calls
    python tests/attention/impl/fused/asan.py --calls 300   # fewer random calls
    python tests/attention/impl/fused/asan.py --no-tests    # random calls only

The library is compiled by g++ into a folder of its own, which is removed at the end. A bad access ends the
run with the sanitizer's report, which names the line.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from crosshead import interactive_attention
from crosshead.testing.inputs import MASK_NAMES, MIXING_MODES, make_inputs

HERE = Path(__file__).parent
# Behind the library's own flags, so that this -O counts: with -O3 the sanitizers take minutes to compile.
COMPILER = """#!/bin/sh
unset LD_PRELOAD
exec g++ "$@" -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined
"""


def main() -> None:
    """Builds the library, then runs what loads it, each in a process that starts with the sanitizers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=2400, help="random calls (default: 2400)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first call (default: 0)")
    parser.add_argument("--no-tests", action="store_true", help="random calls only")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        for seed in range(options.seed, options.seed + options.calls):
            call(random.Random(seed))
        print(f"{options.calls} random calls without a bad access")
        return
    commands = [["-m", "crosshead.cli.main", "build"]]
    if not options.no_tests:
        tests = sorted(map(str, HERE.glob("test_cpu_*.py")))
        commands.append(["-m", "pytest", "-n", "0", "-q", "-p", "no:cacheprovider", *tests])
    commands.append([__file__, "--here", f"--calls={options.calls}", f"--seed={options.seed}"])
    with tempfile.TemporaryDirectory() as folder:
        compiler = Path(folder, "compiler")
        compiler.write_text(COMPILER)
        compiler.chmod(0o700)
        environment = os.environ | {
            "CXX": str(compiler),
            "CROSSHEAD_CACHE": folder,
            "LD_PRELOAD": " ".join(map(runtime, ("libasan.so", "libubsan.so"))),
            "ASAN_OPTIONS": "detect_leaks=0",  # Python keeps memory until it ends
            "UBSAN_OPTIONS": "print_stacktrace=1",
        }
        for arguments in commands:
            finished = subprocess.run([sys.executable, *arguments], env=environment)
            if finished.returncode:
                sys.exit(finished.returncode)


def runtime(name: str) -> str:
    """Where g++ keeps a sanitizer's library."""
    found = subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    return found.stdout.strip()


def call(draw: random.Random) -> None:
    """One forward and one backward pass over operands with nothing behind the last of their numbers."""
    torch.set_num_threads(draw.choice([1, 1, 2, 3]))
    heads = draw.choice([1, 2, 3, 4, 5, 7, 8, 9, 12, 17])
    inputs = make_inputs(
        batch=draw.randint(1, 3),
        heads=heads,
        group_size=draw.choice([heads, *(size for size in range(1, heads) if heads % size == 0)]),
        queries=length(draw),
        keys=length(draw),
        landmarks=draw.choice([1, 2, 3, 4, 7, 8, 9, 16, 17, 25]),
        head_dim=draw.randint(1, 40),
        value_dim=draw.randint(1, 40),
        mixing=draw.choice(MIXING_MODES),
        masks=[name for name in MASK_NAMES if draw.random() < 0.4],
        dtype=draw.choice([torch.float32, torch.bfloat16]),
        seed=draw.randint(0, 10**6),
    )
    size = draw.choice([1.0, 1.0, 1.0, 30.0, 1e4])
    (query, key, value), keywords = inputs.arguments()
    operands = [at_the_border(size * x.detach(), draw) for x in (query, key, value)]
    for name in ("query_landmarks", "key_landmarks"):
        keywords[name] = at_the_border(keywords[name].detach(), draw)
    wanted = [*operands, keywords["query_landmarks"], keywords["key_landmarks"]]
    for mixing in (keywords["query_mixing"], keywords["key_mixing"]):
        wanted += [x for x in mixing or () if x is not None]
    output = interactive_attention(*operands, **keywords, impl="fused")
    torch.autograd.grad(output, wanted, at_the_border(torch.randn_like(output), draw).detach())


def length(draw: random.Random) -> int:
    """A number of tokens; short ones, around the borders of vectors and tiles, are the more likely."""
    return draw.choice([1, 2, draw.randint(1, 40), draw.randint(1, 40), draw.randint(41, 600)])


def at_the_border(x: Tensor, draw: random.Random) -> Tensor:
    """These numbers in a drawn layout, in memory of their own that ends with the last of them."""
    channel = draw.choice([1, 1, 1, 1, 2])
    strides, step = [0, 0, 0, channel], channel * x.shape[3] + draw.choice([0, 0, 1, 2, 3, 7])
    for axis in draw.choice([(2, 1, 0), (1, 2, 0), (2, 0, 1), (0, 1, 2)]):
        strides[axis] = 0 if draw.random() < 0.05 else step
        step = step * x.shape[axis] + draw.choice([0, 0, 1, 2, 3, 7])
    before = draw.choice([0, 0, 1, 2, 5])
    extent = 1 + sum((n - 1) * stride for n, stride in zip(x.shape, strides, strict=True))
    memory = torch.full((before + extent,), float("nan"), dtype=x.dtype)
    placed = memory.as_strided(x.shape, strides, before)
    if 0 in strides:
        memory.fill_(x.flatten()[0].item())
    else:
        placed.copy_(x)
    return placed.requires_grad_()


if __name__ == "__main__":
    main()

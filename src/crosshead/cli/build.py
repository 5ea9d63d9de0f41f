"""`crosshead build`: compiles the CPU's kernel."""


def build(force: bool = False) -> None:
    """Compiles the CPU's attention kernel for this machine: once, in about ten seconds.

    From then on impl="auto" uses it for float32 and bfloat16 on the CPU. It needs an x86-64 Linux machine
    with AVX2 or AVX-512, and a C++ compiler. The library is kept in the user's cache folder (or
    $CROSSHEAD_CACHE), to which nobody else may write, and is made again after a new version of Crosshead or
    torch. GPUs need no building: Triton compiles there when first used.

    Args:
        force: compile even if a library for this machine exists.
    """
    from crosshead.attention.impl.fused.cpu import build as kernel
    from crosshead.attention.impl.fused.cpu.trust import checksum_file
    from crosshead.cli.console import Terminal

    console = Terminal()
    built = not force and kernel.missing() is None
    with console.status("compiling the CPU kernel"):
        path = kernel.build(force=force)
        error = _deviation_in_a_new_process()
    if not error < 1e-5:
        path.unlink()
        checksum_file(path).unlink(missing_ok=True)
        raise NotImplementedError(
            f"the kernel's results are off by {error:.1e} and it was removed: please report this with the "
            "output of `crosshead info` and of `c++ --version`. impl='streamed' works without it"
        )
    state = "was built already" if built else "is built"
    console.print(f"The CPU kernel {state} and agrees with the equations (largest deviation {error:.0e}).")
    console.print(str(path), soft_wrap=True)


def _deviation_in_a_new_process() -> float:
    """This process may have loaded the library that was there before."""
    import subprocess
    import sys

    code = "from crosshead.cli.build import largest_deviation; print(largest_deviation())"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return float(run.stdout) if run.returncode == 0 else float("inf")


def largest_deviation() -> float:
    """How far the kernel's results are from those of the equations, on some random operands."""
    import torch

    from crosshead import HeadMixing, interactive_attention

    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    query, key, value = draw(3, 1, 6, 300, 20)
    query_landmarks, key_landmarks = draw(2, 1, 6, 10, 20)
    mixing = HeadMixing(logits=draw(6, 6) / 4, weights=draw(6, 6) / 4)
    fused, plain = (
        interactive_attention(
            query,
            key,
            value,
            query_landmarks=query_landmarks,
            key_landmarks=key_landmarks,
            query_mixing=mixing,
            key_mixing=mixing,
            impl=impl,
        )
        for impl in ("fused", "reference")
    )
    return (fused - plain).abs().max().item()

"""Everything that is owed on an NVIDIA GPU, in one run of at most nine minutes.

    python benchmarks/gpu.py                  # on a machine with a GPU; results go to bench/gpu-NUMBER
    python benchmarks/gpu.py --rehearse       # anywhere: tiny sizes, kernels in Triton's interpreter

Stage after stage, each with a table of its own, written as soon as its rows are there:

    errors.csv        output and every gradient against float64, within the error budget, in every dtype
    repeats.csv       the same bits again, forward and backward
    races.csv         compute-sanitizer over one call, where it is installed
    attention-*/      time and memory beside flash attention, two SDPA calls, the equations and torch.compile
    tiles.csv         tokens, landmarks and warps of each kernel's tile, one changed at a time
    backbone/         iViT beside its peers

A stage that the time does not reach is named at the end. The exit code is 1 if anything was wrong. Where all
was right, `cuda` may join `PROVEN` in crosshead/attention/impl/fused/ready.py: then `auto` uses the kernel.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Row = dict[str, Any]
MASKS = ("query_mask", "key_mask", "landmark_mask")
# Sizes that no tile divides, sizes that fill tiles, many small heads, and one head.
SHAPES: tuple[dict[str, Any], ...] = (
    {"batch": 2, "heads": 3, "queries": 37, "keys": 51, "landmarks": 18, "head_dim": 20, "value_dim": 12},
    {"batch": 1, "heads": 8, "queries": 300, "keys": 520, "landmarks": 64, "head_dim": 64, "value_dim": 64},
    {"batch": 2, "heads": 16, "queries": 130, "keys": 65, "landmarks": 49, "head_dim": 16, "value_dim": 16},
    {"batch": 1, "heads": 1, "queries": 1, "keys": 1, "landmarks": 1, "head_dim": 128, "value_dim": 8},
    {
        "batch": 1,
        "heads": 32,
        "group_size": 8,
        "queries": 90,
        "keys": 200,
        "landmarks": 49,
        "head_dim": 16,
        "value_dim": 16,
    },
)
TINY: dict[str, Any] = SHAPES[0] | {"queries": 20, "keys": 19, "landmarks": 5}
# Tokens, landmarks and warps of a tile.
TILES = ((16, 16, 4), (16, 16, 8), (32, 16, 4), (32, 16, 8), (16, 32, 8), (32, 32, 8), (64, 16, 8))
# Heads, head dim, landmarks and tokens for which tiles are tried.
TUNED = ((8, 64, 64, 16_384), (16, 16, 49, 4_096))
FORWARD = ("key_statistics", "aggregate", "query_output")
BACKWARD = ("token_gradients", "landmark_gradients", "key_overlap")
PEERS = ("ivit_small", "convnext_tiny", "swin_tiny_patch4_window7_224", "deit_small_patch16_224")


class Run:
    """Where results go, what they are made on, and how much time is left.

    Args:
        folder: for the tables.
        device: "cuda", or "cpu" for a rehearsal.
        minutes: for everything.
    """

    def __init__(self, folder: Path, device: str, minutes: float) -> None:
        self.folder, self.device = folder, device
        self.rehearsal = device == "cpu"
        self.end = time.monotonic() + 60 * minutes
        self.wrong: list[str] = []
        self.unreached: list[str] = []

    def left(self) -> float:
        """Seconds."""
        return self.end - time.monotonic()

    def collect(self, name: str, rows: Iterator[Row]) -> None:
        """Writes the rows of a stage as they come, until the time is up."""
        from crosshead.bench.report import head_lines, write_table

        found: list[Row] = []
        head = head_lines(sys.argv[1:], "see columns")
        head[0] = f"command: python benchmarks/gpu.py {' '.join(sys.argv[1:])}".rstrip()
        for row in rows:
            found.append(row)
            write_table(self.folder / f"{name}.csv", found, head)
            if row.get("right") is False:
                self.wrong.append(f"{name}: {row}")
            if self.left() < 0:
                self.unreached.append(f"the rest of {name}")
                break
        print(f"{name}: {len(found)} rows, {self.left():.0f} s left", flush=True)


def errors(run: Run) -> Iterator[Row]:
    """Each dtype, shape, kind of mixing, with and without masks: inside the budget or not."""
    import torch

    from crosshead.testing.inputs import MIXING_MODES
    from crosshead.testing.kernel import Yardstick, draw_inputs

    dtypes = (torch.float32,) if run.rehearsal else (torch.bfloat16, torch.float16, torch.float32)
    for shape in (TINY,) if run.rehearsal else SHAPES:
        for dtype in dtypes:
            for mixing in ("both",) if run.rehearsal else MIXING_MODES:
                for masks in ((), MASKS):
                    sizes = {**shape, "mixing": mixing, "masks": masks, "dtype": dtype, "draws": 3}
                    yardstick = Yardstick(draw_inputs(**sizes))
                    found = [results(inputs) for inputs in draw_inputs(**sizes, device=run.device)]
                    flat = {name: torch.cat([x[name].flatten() for x in found]) for name in found[0]}
                    try:
                        yardstick.assert_within(flat)
                        outside = ""
                    except AssertionError as error:
                        outside = str(error).splitlines()[0]
                    row = {"dtype": str(dtype).removeprefix("torch."), "mixing": mixing, "masks": len(masks)}
                    yield {**row, "group_size": "", **shape, "right": not outside, "outside": outside}


def attend(query: Any, key: Any, value: Any, **more: Any) -> Any:
    """The kernel's operator on any device, called as `interactive_attention`."""
    import torch

    from crosshead.attention.grid import zero_outside
    from crosshead.attention.impl.fused import ops
    from crosshead.attention.operands import checked_operands

    masks = {name: more.get(name) for name in MASKS}
    landmarks = more["query_landmarks"], more["key_landmarks"]
    mixings = more.get("query_mixing"), more.get("key_mixing")
    operands = checked_operands((query, key, value, *landmarks), mixings, masks, scale=None)
    output = getattr(torch.ops.crosshead, ops.NAMES["cuda"])(*operands)[0]
    return zero_outside(masks["query_mask"], output)


def results(inputs: Any) -> dict[str, Any]:
    """Output and every gradient of the kernel, on the CPU."""
    from crosshead.testing.inputs import output_and_gradients

    return {name: x.cpu() for name, x in output_and_gradients(attend, inputs).items()}


def repeats(run: Run) -> Iterator[Row]:
    """The same bits when run again."""
    import torch

    from crosshead.testing.inputs import make_inputs

    shape: dict[str, Any] = TINY if run.rehearsal else SHAPES[1] | {"queries": 5000, "keys": 7000}
    for dtype in (torch.float32,) if run.rehearsal else (torch.bfloat16, torch.float16, torch.float32):
        inputs = make_inputs(**shape, masks=MASKS, dtype=dtype, device=run.device)
        first = results(inputs)
        same = all(
            torch.equal(x, again[name])
            for again in (results(inputs) for _ in range(1 if run.rehearsal else 5))
            for name, x in first.items()
        )
        yield {"dtype": str(dtype).removeprefix("torch."), **shape, "right": same}


def races(run: Run) -> Iterator[Row]:
    """What compute-sanitizer says of one call, forward and backward."""
    found = shutil.which("compute-sanitizer") or shutil.which("/usr/local/cuda/bin/compute-sanitizer")
    for tool in ("memcheck", "racecheck"):
        if found is None:
            yield {"tool": tool, "right": "", "says": "compute-sanitizer is not installed"}
            continue
        command = [found, "--tool", tool, "--error-exitcode", "1", sys.executable, __file__, "--one-call"]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=max(10, run.left() / 4), check=False
            )
        except subprocess.TimeoutExpired:
            yield {"tool": tool, "right": "", "says": "not finished in time"}
            continue
        last = (done.stdout.strip() or done.stderr.strip()).splitlines()[-1:]
        yield {"tool": tool, "right": done.returncode == 0, "says": " ".join(last)}


def tile_times(run: Run) -> Iterator[Row]:
    """Time of a pass with one kernel's tile changed and the others as they are shipped."""
    import torch

    from crosshead.measure.timing import plan_samples, quartiles, time_calls
    from crosshead.testing.inputs import make_inputs, output_and_gradients

    dtype, sizes = (torch.float32, TUNED[:1]) if run.rehearsal else (torch.bfloat16, TUNED)
    for heads, dim, landmarks, tokens in sizes:
        tokens = 16 if run.rehearsal else tokens
        shape: dict[str, Any] = {
            "heads": heads,
            "head_dim": dim,
            "value_dim": dim,
            "landmarks": landmarks,
            "queries": tokens,
        }
        inputs = make_inputs(**shape, batch=1, keys=tokens, dtype=dtype, device=run.device)
        operands, options = inputs.arguments()

        def forward(operands: Any = operands, options: Any = options) -> object:
            with torch.no_grad():
                return attend(*operands, **options)

        def both(inputs: Any = inputs) -> object:
            return output_and_gradients(attend, inputs)

        calls = {**dict.fromkeys(FORWARD, forward), **dict.fromkeys(BACKWARD, both)}
        for kernel, call in list(calls.items())[: 1 if run.rehearsal else None]:
            for tile in (None, *(TILES[:1] if run.rehearsal else TILES)):
                row = {
                    **shape,
                    "kernel": kernel,
                    "tile": "as shipped" if tile is None else "x".join(map(str, tile)),
                }
                with changed_tile(kernel, tile):
                    try:
                        call()
                        plan = plan_samples(time_calls(call, 1, device=run.device), budget=0.5, repeats=5)
                        times = [time_calls(call, plan.calls, device=run.device) for _ in range(plan.rounds)]
                    except Exception as error:  # a tile that does not fit says so in many ways
                        said = " ".join(str(error).split())[:160]
                        yield {**row, **dict.fromkeys(quartiles([0.0]), ""), "says": said}
                    else:
                        yield {**row, **quartiles(times), "says": ""}


@contextmanager
def changed_tile(kernel: str, tile: tuple[int, int, int] | None) -> Iterator[None]:
    """Lets one kernel have another tile; None leaves it what it is."""
    from dataclasses import replace

    from crosshead.attention.impl.fused.cuda import tiles

    usual = tiles.choose

    def choose(name: str, **about: Any) -> Any:
        chosen = usual(name, **about)
        if name != kernel or tile is None:
            return chosen
        return replace(chosen, tokens=tile[0], landmarks=tile[1], warps=tile[2])

    tiles.choose = choose
    try:
        yield
    finally:
        tiles.choose = usual


def bench(run: Run, name: str, *arguments: str) -> None:
    """A command of `crosshead bench`, within the time that is left."""
    command = [sys.executable, "-m", "crosshead.cli.main", "bench", *arguments]
    folder = run.folder / name
    command += ["--device", run.device, "--output", str(folder)]
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    try:
        done = subprocess.run(command, timeout=max(1.0, run.left()), env=environment, check=False)
    except subprocess.TimeoutExpired:
        run.unreached.append(f"the rest of {name}")
    else:
        if done.returncode:
            run.wrong.append(f"{name}: exit code {done.returncode}")
    print(f"{name}: {run.left():.0f} s left", flush=True)


def times(run: Run) -> None:
    """Attention beside its rivals in every dtype, then whole backbones."""
    usual = ("--providers", "fused", "landmarks-only", "exact", "reference", "streamed", "compiled")
    if run.rehearsal:
        bench(
            run,
            "attention",
            "attention",
            "--providers",
            "landmarks-only",
            "--tokens",
            "16",
            "--budget",
            "0.1",
        )
        bench(run, "backbone", "backbone", "--models", "ivit_nano", "--sizes", "32", "--budget", "0.1")
        return
    tokens, budget = ("--tokens", "1024", "4096", "16384", "65536"), ("--budget", "0.7")
    many = ("--heads", "32", "--head-dim", "16", "--landmarks", "49", "--tokens", "4096", "65536")
    bench(run, "attention-bfloat16", "attention", *usual, *tokens, *budget, "--dtype", "bfloat16")
    bench(run, "attention-32-heads", "attention", *usual[:-1], *many, *budget, "--dtype", "bfloat16")
    grouped = ("--mixing-group-size", "8")
    bench(run, "attention-groups", "attention", *usual[:-1], *many, *grouped, *budget, "--dtype", "bfloat16")
    bench(run, "attention-float32", "attention", *usual, *tokens[:4], *budget)
    sizes = ("--sizes", "224", "1024", "--batch", "8", "--budget", "2")
    bench(run, "backbone", "backbone", "--models", *PEERS, *sizes, "--dtype", "bfloat16")


def main() -> None:
    """Runs every stage, and says at the end what was wrong and what was not reached."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="new folder (default: the next free bench/gpu-NUMBER)")
    parser.add_argument("--minutes", type=float, default=9.0, help="for everything (default: 9)")
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes in Triton's interpreter, no GPU")
    parser.add_argument("--one-call", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rehearse:
        os.environ["TRITON_INTERPRET"] = "1"  # read when triton is imported
    import torch

    from crosshead.bench.report import free_folder
    from crosshead.testing.inputs import make_inputs

    if not options.rehearse and not torch.cuda.is_available():
        sys.exit("torch finds no GPU: run this where there is one, or try --rehearse")
    device = "cpu" if options.rehearse else "cuda"
    if options.one_call:
        results(make_inputs(**SHAPES[0], masks=MASKS, dtype=torch.bfloat16, device=device))
        return
    run = Run(free_folder(options.out, "gpu"), device, options.minutes)
    run.folder.mkdir(parents=True, exist_ok=True)
    print(f"results go to {run.folder}", flush=True)
    for name, stage in (("errors", errors), ("repeats", repeats), ("races", races)):
        run.collect(name, stage(run))
    times(run)
    run.collect("tiles", tile_times(run))
    for text in run.unreached:
        print(f"not reached: {text}")
    for text in run.wrong:
        print(f"wrong: {text}")
    sys.exit(bool(run.wrong))


if __name__ == "__main__":
    main()

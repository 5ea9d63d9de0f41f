"""The most memory that one run holds.

On CUDA the allocator counts. On the CPU a run gets a process of its own, and the high-water mark that the
system keeps of it is read, counted from when inputs and parameters exist. Processes are forked from one that
has rehearsed the same at a small size with one thread: each is fresh, and none waits for imports.
"""

import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from crosshead.measure.workload import Computed, Workload

# Freed blocks of 64 kB and more go back to the system at once, so that resident memory is memory in use.
# Compiling in the process itself keeps it from starting threads and others before it forks.
ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
    "TORCHINDUCTOR_COMPILE_THREADS": "1",
}
CLEAR_REFERENCES = Path("/proc/self/clear_refs")
STATUS = Path("/proc/self/status")


class MeasurementError(RuntimeError):
    """A run whose memory could not be measured; the message says why."""


def supported(device: str) -> bool:
    """Whether memory can be measured: on CUDA, and on Linux."""
    return device == "cuda" or CLEAR_REFERENCES.exists()


def available_bytes(device: str) -> float:
    """Memory that a run may take."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    try:
        free = _field(Path("/proc/meminfo"), "MemAvailable")
    except OSError:
        return float("inf")
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = ((group / f"memory.{name}").read_text().strip() for name in ("max", "current"))
        return min(free, int(limit) - int(used))
    except (OSError, ValueError):  # no control group, or one without a limit
        return free


def measure_on_cuda(workload: Workload) -> dict[str, int]:
    """Bytes of one run, by the allocator's own count, after a first one."""
    workload.run()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    result = workload.run()
    torch.cuda.synchronize()
    return _columns(workload, result, torch.cuda.max_memory_allocated() - before)


class MemoryProcesses:
    """Measures runs on the CPU, each in a fresh process; a context manager.

    Args:
        module: where the function lives that prepares a run.
        function: its name; given keyword arguments, it returns `(warm_up, Workload)`.
        threads: of torch; as many as in this process if None.
    """

    def __init__(self, module: str, function: str, *, threads: int | None = None) -> None:
        self.task = {"module": module, "function": function, "threads": threads or torch.get_num_threads()}
        self.process: subprocess.Popen | None = None

    def __enter__(self) -> "MemoryProcesses":
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def measure(self, arguments: dict[str, Any], *, rehearsal: dict[str, Any]) -> dict[str, int]:
        """Bytes of one run, as columns.

        Args:
            arguments: of the function that prepares the run.
            rehearsal: arguments of the same at a small size, without a backward pass: a process whose
                autograd has run may not fork one that runs it too.

        Raises:
            MeasurementError: if the run did not finish.
        """
        if self.process is None or self.process.poll() is not None:
            self._start()
        process: Any = self.process
        try:
            task = {**self.task, "arguments": arguments, "rehearsal": rehearsal}
            process.stdin.write(json.dumps(task) + "\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
        except (OSError, ValueError):
            self._end()
            raise MeasurementError("the process that measures memory has died") from None
        if "error" in answer:
            raise MeasurementError(answer["error"])
        return answer

    def _start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "crosshead.measure.memory"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | ENVIRONMENT,
        )

    def _end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


def measure_here(warm_up: Callable[[], object], workload: Workload) -> dict[str, int]:
    """The high-water mark of this process over one run."""
    warm_up()  # thread pools, libraries, programs
    gc.collect()
    CLEAR_REFERENCES.write_text("5")  # the high-water mark starts again from here
    before = _field(STATUS, "VmRSS")
    result = workload.run()
    return _columns(workload, result, _field(STATUS, "VmHWM") - before)


def _columns(workload: Workload, result: Computed, peak: int) -> dict[str, int]:
    returned = {
        "output_bytes": result.output.nbytes,
        "gradient_bytes": sum(x.nbytes for x in result.gradients),
    }
    # Linux adds up pages processor by processor, and may miss some; what is returned was held for certain.
    peak = max(peak, sum(returned.values()))
    return {
        "input_bytes": sum(x.nbytes for x in workload.given),
        **returned,
        "peak_bytes": peak,
        "beyond_bytes": peak - sum(returned.values()),
    }


def _field(path: Path, name: str) -> int:
    for line in path.read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{path} has no {name}")


def _serve() -> None:
    """Reads one task per line, runs each in a fork and writes one result per line."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what packages print is no answer
    torch.set_num_threads(1)  # no other thread may exist when a process forks
    rehearsed = []
    for line in sys.stdin:
        task = json.loads(line)
        prepare = getattr(import_module(task["module"]), task["function"])
        if task["rehearsal"] not in rehearsed:
            rehearsed.append(task["rehearsal"])
            with suppress(Exception):  # what is wrong with it, the fork will tell
                prepare(**task["rehearsal"])[1].run()
        answers.write(_in_fork(prepare, task) + "\n")
        answers.flush()


def _in_fork(prepare: Callable[..., tuple[Callable[[], object], Workload]], task: dict[str, Any]) -> str:
    with tempfile.TemporaryFile() as answer:
        child = os.fork()
        if child == 0:
            try:
                torch.set_num_threads(task["threads"])
                found = measure_here(*prepare(**task["arguments"]))
            except Exception as error:
                found = {"error": f"{type(error).__name__}: {error}"}
            os.write(answer.fileno(), json.dumps(found).encode())
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            return json.dumps({"error": f"killed by {signal.Signals(os.WTERMSIG(status)).name}"})
        answer.seek(0)
        return answer.read().decode()


if __name__ == "__main__":
    _serve()

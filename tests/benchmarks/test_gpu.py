"""The run on a GPU, rehearsed: every stage on tiny sizes, with the kernels in Triton's interpreter."""

import csv
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks/gpu.py"


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


@pytest.mark.skipif(find_spec("triton") is None, reason="needs triton, which comes with torch for CUDA")
@pytest.mark.timeout(600)
def test_every_stage_writes_its_table(tmp_path):
    done = run("--rehearse", "--out", "found", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "found"
    assert [row["right"] for row in rows(folder / "errors.csv")] == ["True", "True"]
    assert [row["right"] for row in rows(folder / "repeats.csv")] == ["True"]
    assert [row["tool"] for row in rows(folder / "races.csv")] == ["memcheck", "racecheck"]
    tiles = rows(folder / "tiles.csv")
    assert [row["tile"] for row in tiles] == ["as shipped", "16x16x4"]
    assert all(float(row["median_s"]) > 0 for row in tiles)
    assert (folder / "attention/results.csv").exists()
    assert (folder / "backbone/results.csv").exists()
    assert "command: python benchmarks/gpu.py --rehearse" in (folder / "errors.csv").read_text()
    assert "wrong" not in done.stdout


@pytest.mark.timeout(600)
def test_a_kernel_that_is_wrong_is_told(tmp_path):
    # The operator gives zeros: every comparison fails, and the run says which.
    broken = tmp_path / "broken.py"
    broken.write_text(
        "import sys, runpy\n"
        "sys.argv = [sys.argv[1], '--rehearse', '--out', 'found', '--minutes', '0.001']\n"
        "script = runpy.run_path(sys.argv[0])\n"
        "attend = script['attend']\n"
        "script['results'].__globals__['attend'] = lambda *a, **k: 0 * attend(*a, **k)\n"
        "script['main']()\n"
    )
    done = subprocess.run(
        [sys.executable, str(broken), str(SCRIPT)],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "wrong: errors: {'dtype': 'float32'" in done.stdout
    assert "not reached: the rest of errors" in done.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_what_to_do(tmp_path):
    done = run(folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "torch finds no GPU: run this where there is one, or try --rehearse\n"
    assert not list(tmp_path.iterdir())

"""The promise that matters most: killed at any moment, a run ends as if it had not been."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

FLAGS = [
    *("--model-args", "depths=[1,1,1,1]", "dims=[8,16,16,16]", "head_dim=8"),
    *("--epochs", "3", "--batch-size", "64", "--threads", "1", "--accelerator", "cpu", "--workers", "2"),
    *("--ema", "0.9", "--mixup", "0.2", "--cutmix", "1.0", "--dropout", "0.2", "--drop-path", "0.2"),
    *("--erasing", "0.3", "--rand-augment", "rand-m5-mstd0.5"),
]


def start(*arguments: str | Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "crosshead.cli.main", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen) -> str:
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    return output


def rows(run: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv without the clock."""
    with (run / "metrics.csv").open(newline="") as file:
        kept = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in kept]


@pytest.mark.timeout(300)
def test_a_run_killed_in_the_middle_of_an_epoch_ends_with_the_same_bits(tmp_path):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    uninterrupted = start("train", "digits", *FLAGS, "--out", straight)
    victim = start("train", "digits", *FLAGS, "--out", killed)
    while not (killed / "checkpoints" / "last.ckpt").exists():
        assert victim.poll() is None, victim.communicate()[0]
        time.sleep(0.02)
    time.sleep(0.3)
    victim.kill()
    # Its loader processes may outlive it by seconds and hold its output open: wait for the run alone.
    victim.wait(timeout=60)
    assert victim.stdout is not None
    victim.stdout.close()
    assert victim.returncode == -signal.SIGKILL
    done = len(rows(killed))
    assert done < 3
    finish(uninterrupted)
    output = finish(start("resume", killed))
    assert f"continuing after epoch {done}" in output
    assert rows(killed) == rows(straight)
    assert [row["epoch"] for row in rows(killed)] == ["1", "2", "3"]
    one, other = (
        load_file(straight / "model/model.safetensors"),
        load_file(killed / "model/model.safetensors"),
    )
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not list(killed.rglob("*.partial"))


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("number", "code", "seconds"),
    [(signal.SIGTERM, 143, 0.6), (signal.SIGINT, 130, 0.3)],
)
def test_a_group_of_processes_that_is_told_to_end_says_in_one_line_how_to_go_on(
    tmp_path, number, code, seconds
):
    run = tmp_path / "run"
    flags = ["--out", str(run), "--epochs", "50"]
    victim = subprocess.Popen(
        [sys.executable, "-m", "crosshead.cli.main", "train", "digits", *FLAGS, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not (run / "checkpoints" / "last.ckpt").exists():
        assert victim.poll() is None, victim.communicate()[1]
        time.sleep(0.02)
    time.sleep(seconds)
    os.killpg(victim.pid, number)
    output, errors = victim.communicate(timeout=100)
    assert errors == ""
    assert victim.returncode == code
    last = output.splitlines()[-1]
    assert last == f"interrupted; go on after the last finished epoch: crosshead resume {run}"
    assert not (run / ".lock").exists()

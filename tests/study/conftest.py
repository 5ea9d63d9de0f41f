"""Trials, rows and ledgers at which everything takes milliseconds."""

import queue
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from crosshead.study import execution
from crosshead.study.execution import Place
from crosshead.study.trial import Ledger, Shape, Trial

TINY = Shape(image_size=8, patch_size=2, dim=16, depth=1, heads=4, mlp_ratio=2, landmarks=2)
SHAPE = {field.name for field in fields(Shape)}

MakeTrial = Callable[..., Trial]
MakeRow = Callable[..., dict[str, str]]


@pytest.fixture(scope="session")
def tiny() -> Shape:
    return TINY


@pytest.fixture(scope="session")
def make_trial() -> MakeTrial:
    """A trial on the digits; fields of the trial and of its shape may be named."""

    def make(**changes: Any) -> Trial:
        shape = {**vars(TINY), **{name: changes.pop(name) for name in SHAPE & changes.keys()}}
        usual = {
            "data": "digits",
            "split": "test",
            "attention": "interactive",
            "samples": 640,
            "batch_size": 16,
            "learning_rate": 0.002,
            "weight_decay": 0.05,
            "precision": "32-true",
            "seed": 0,
        }
        return Trial(**{**usual, "shape": Shape(**shape), **changes})

    return make


@pytest.fixture(scope="session")
def make_row(make_trial) -> MakeRow:
    """A row of results.csv: `make_row(0.9, seed=3)`."""

    def make(accuracy: float, *, parameters: int = 2762, **changes: Any) -> dict[str, str]:
        row = {
            **make_trial(**changes).columns(),
            "accuracy": accuracy,
            "loss": 1.0,
            "parameters": parameters,
            "train_seconds": 1.0,
        }
        return {name: str(value) for name, value in row.items()}

    return make


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    return Ledger(tmp_path / "results.csv")


@pytest.fixture
def place() -> Place:
    return Place(device="cpu", jobs=1, threads=1, workers=0, data_dir=None)


class Inline:
    """Stands in for a pool of processes: runs here, at once, what is submitted."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self._processes: dict[int, Any] = {}

    def __enter__(self) -> "Inline":
        return self

    def __exit__(self, *_: object) -> None: ...

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        future: Future = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future

    def shutdown(self, **_: Any) -> None: ...


@pytest.fixture
def trained(monkeypatch) -> list[Trial]:
    """Trials as a study starts them, in order, none of which is trained: larger rates are more accurate."""
    found: list[Trial] = []

    def run(trial: Trial, place: Place, ticks: Any) -> dict[str, Any]:
        found.append(trial)
        ticks.put(trial.samples)
        return {"accuracy": 0.5 + trial.learning_rate, "loss": 1.0, "parameters": 7, "train_seconds": 0.1}

    monkeypatch.setattr(execution, "ProcessPoolExecutor", Inline)
    monkeypatch.setattr(execution, "SyncManager", _Manager)
    monkeypatch.setattr(execution, "_run", run)
    return found


class _Manager:
    """A manager without a process."""

    def __init__(self, **_: Any) -> None: ...

    def start(self, *_: object) -> None: ...

    def __enter__(self) -> "_Manager":
        return self

    def __exit__(self, *_: object) -> None: ...

    def Queue(self) -> queue.Queue:
        return queue.Queue()


@pytest.fixture
def results(tmp_path) -> Callable[..., Path]:
    """Writes rows as results.csv of a study, and answers its folder."""
    from crosshead.bench.report import write_table

    def write(rows: list[dict[str, str]]) -> Path:
        write_table(tmp_path / "results.csv", rows, [])
        return tmp_path

    return write

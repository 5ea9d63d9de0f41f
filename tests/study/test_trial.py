"""What decides a trial, how it is written down, and how a mechanism is named; the table keeps every row."""

import csv
import subprocess
import sys

import pytest

from crosshead.runs.folder import RunError
from crosshead.study.trial import Ledger, attention_options, read_rows


def test_the_columns_are_all_fields_flat(make_trial):
    columns = make_trial(seed=4, dim=24, attention="softmax").columns()
    assert "shape" not in columns
    assert (columns["seed"], columns["dim"], columns["attention"], columns["samples"]) == (
        4,
        24,
        "softmax",
        640,
    )
    assert len(columns) == 9 + 7


@pytest.mark.parametrize(
    "change",
    [
        {"data": "cifar10"},
        {"split": "validation"},
        {"attention": "softmax"},
        {"samples": 641},
        {"batch_size": 17},
        {"learning_rate": 0.003},
        {"weight_decay": 0.1},
        {"precision": "bf16-mixed"},
        {"seed": 1},
        {"image_size": 10},
        {"landmarks": 3},
        {"mlp_ratio": 3},
    ],
)
def test_whatever_changes_a_training_changes_its_key(make_trial, change):
    assert make_trial(**change).key() != make_trial().key()
    assert make_trial(**change) != make_trial()
    assert make_trial().key() == make_trial().key()


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("softmax", "softmax", {}),
        ("interactive:mixing=none,local_kernel=3", "interactive", {"mixing": "none", "local_kernel": 3}),
        (
            "ivit:attention_stages=(1,2,3),mlp_ratio=1.5",
            "ivit",
            {"attention_stages": (1, 2, 3), "mlp_ratio": 1.5},
        ),
        ("ivit:attention_stages=(3,)", "ivit", {"attention_stages": (3,)}),
        ("softmax:qkv_bias=False", "softmax", {"qkv_bias": False}),
    ],
)
def test_a_mechanism_is_a_name_with_options(text, name, options):
    assert attention_options(text) == (name, options)


@pytest.mark.parametrize("text", ["interactive:mixing", "interactive:=3", "interactive:mixing=", "a:b c=1"])
def test_an_option_without_name_or_value_is_told(text):
    with pytest.raises(ValueError, match="give name:option=value"):
        attention_options(text)


def test_trials_plans_and_options_wait_for_no_torch():
    code = (
        "import sys, crosshead.study.plans, crosshead.study.execution\n"
        "sys.exit(', '.join({'torch', 'timm', 'lightning', 'matplotlib'} & sys.modules.keys()) or 0)"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr


RESULT = {"accuracy": 0.5, "loss": 1.25, "parameters": 7, "head_diversity": "", "train_seconds": 2.0}


def test_a_row_says_what_was_trained_what_came_out_and_on_what(ledger, make_trial):
    row = ledger.add(make_trial(seed=2), RESULT, arguments=["study", "rivals", "--out", "my folder"])
    (written,) = list(csv.DictReader(ledger.path.read_text().splitlines()))
    assert written == row
    assert written["command"] == "crosshead study rivals --out 'my folder'"
    assert (written["seed"], written["accuracy"], written["head_diversity"]) == ("2", "0.5", "")
    assert "torch 2." in written["versions"]
    assert "cores" in written["hardware"]
    assert written["finished"].startswith("20")


def test_another_process_finds_what_was_added(ledger, make_trial):
    for seed in range(3):
        ledger.add(make_trial(seed=seed, attention="ivit:attention_stages=(2,3)"), RESULT, arguments=[])
    again = Ledger(ledger.path)
    assert again.rows == ledger.rows
    row = again.find(make_trial(seed=1, attention="ivit:attention_stages=(2,3)"))
    assert row is not None
    assert row["seed"] == "1"
    assert again.find(make_trial(seed=3)) is None
    assert again.find(make_trial(seed=1, attention="softmax")) is None


def test_a_row_of_another_training_is_no_row_of_this_one(ledger, make_trial):
    ledger.add(make_trial(), RESULT, arguments=[])
    for change in ({"samples": 641}, {"split": "validation"}, {"dim": 32}, {"precision": "bf16-mixed"}):
        assert ledger.find(make_trial(**change)) is None, change
    assert ledger.find(make_trial()) is not None


def test_a_write_that_fails_leaves_the_file_as_it_was(ledger, make_trial, monkeypatch):
    ledger.add(make_trial(), RESULT, arguments=[])
    before = ledger.path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space"):
        ledger.add(make_trial(seed=1), RESULT, arguments=[])
    assert ledger.path.read_bytes() == before


def test_a_table_of_another_version_is_not_written_over(ledger, make_trial):
    ledger.add(make_trial(), RESULT, arguments=[])
    before = ledger.path.read_bytes()
    with pytest.raises(RunError, match="has other columns than this version writes: name another folder"):
        Ledger(ledger.path).add(make_trial(seed=1), {**RESULT, "mood": "good"}, arguments=[])
    assert ledger.path.read_bytes() == before


@pytest.fixture
def lines(ledger, make_trial) -> list[str]:
    for seed in range(3):
        ledger.add(make_trial(seed=seed), RESULT, arguments=[])
    return ledger.path.read_text().splitlines()


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("damage", ["cut", "longer", "words"])
def test_a_damaged_row_is_named(ledger, lines, number, damage):
    line = lines[number]
    lines[number] = {
        "cut": line[: len(line) // 3],
        "longer": f"{line},more",
        "words": line.replace(",0.5,", ",half,"),
    }[damage]
    assert lines[number] != line
    ledger.path.write_text("\n".join(lines) + "\n")
    with pytest.raises(RunError, match=f"results.csv is damaged in row {number}"):
        read_rows(ledger.path)


@pytest.mark.parametrize("column", ["attention", "seed", "accuracy", "weight_decay", "landmarks"])
def test_a_table_without_a_column_is_no_table_of_a_study(ledger, lines, column):
    lines[0] = lines[0].replace(f"{column},", f"{column}_of_old,", 1)
    ledger.path.write_text("\n".join(lines) + "\n")
    with pytest.raises(RunError, match="no table of a study"):
        Ledger(ledger.path)


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"\xff\xfe\x00\x01", b"hello"])
def test_a_foreign_file_is_told_in_one_line(tmp_path, content):
    (tmp_path / "results.csv").write_bytes(content)
    with pytest.raises(RunError, match=r"results\.csv") as caught:
        Ledger(tmp_path / "results.csv")
    assert "name the results.csv of a study" in str(caught.value)


def test_a_folder_and_a_missing_file_are_told(tmp_path):
    for path in (tmp_path, tmp_path / "none.csv"):
        with pytest.raises(RunError, match="cannot be read"):
            read_rows(path)

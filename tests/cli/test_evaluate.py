import json
import shutil

import pytest
from PIL import Image


@pytest.mark.usefixtures("val_for_test")
def test_an_evaluation_prints_and_writes_the_metrics(crosshead, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    answer = crosshead("evaluate", "run")
    assert answer.code == 0
    assert answer.err == ""
    metrics = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert metrics["images"] == 143
    confusion = metrics["confusion"]
    assert sum(map(sum, confusion)) == 143
    right = sum(row[column] for column, row in enumerate(confusion))
    assert metrics["top1"] == pytest.approx(right / 143)
    assert metrics["top1"] <= metrics["top5"] <= 1
    assert 0 <= metrics["calibration_error"] <= 1
    for number, (name, fraction) in enumerate(metrics["per_class"].items()):
        assert name == str(number)
        assert fraction == pytest.approx(confusion[number][number] / sum(confusion[number]))
    last = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[-1].split(",")
    assert metrics["top1"] == pytest.approx(float(last[6]), abs=1e-5)
    for text in ("top-1 accuracy", "top-5 accuracy", "expected calibration error", "accuracy of 7"):
        assert text in answer.out
    with Image.open(tmp_path / "run" / "confusion.png") as picture:
        assert min(picture.size) > 300


@pytest.mark.usefixtures("val_for_test")
def test_the_best_epoch_can_be_evaluated(crosshead, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    answer = crosshead("evaluate", "run", "--best")
    assert answer.code == 0
    metrics = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[1:]
    assert metrics["weights"] == "best"
    assert metrics["top1"] == pytest.approx(max(float(row.split(",")[6]) for row in rows), abs=1e-5)


def test_an_evaluation_measures_the_test_set(crosshead, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    answer = crosshead("evaluate", "run")
    assert (answer.code, answer.err) == (0, "")
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text())["images"] == 359
    assert "359 test images" in answer.out


def test_a_run_without_weights_cannot_be_evaluated(crosshead, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run" / "model" / "model.safetensors").unlink()
    answer = crosshead("evaluate", "run")
    assert answer.code == 1
    assert answer.err == ("error: run has no weights yet: let it finish an epoch by `crosshead resume run`\n")


def test_other_splits_are_measured_beside_the_test(crosshead, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    for split, images in (("val", 143), ("train", 1295)):
        answer = crosshead("evaluate", "run", "--split", split)
        assert (answer.code, answer.err) == (0, "")
        assert f"run: {images:,} {split} images" in answer.out
        assert json.loads((tmp_path / "run" / f"{split}-evaluation.json").read_text())["images"] == images
        assert (tmp_path / "run" / f"{split}-confusion.png").is_file()
    assert not (tmp_path / "run" / "evaluation.json").exists()
    rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    found = json.loads((tmp_path / "run" / "val-evaluation.json").read_text())
    assert found["top1"] == pytest.approx(float(rows[-1].split(",")[6]), abs=1e-5)


@pytest.mark.parametrize("split", ["holidays", "../test"])
def test_a_split_that_is_not_there_is_refused(crosshead, trained, tmp_path, split):
    shutil.copytree(trained, tmp_path / "run")
    answer = crosshead("evaluate", "run", "--split", split)
    assert answer.code == 1
    assert answer.err == f"error: split={split} is not one of train, val, test: digits data have no others\n"


def test_a_further_split_of_ones_own_data_is_measured_by_its_name(dense_run, coco_data, crosshead, tmp_path):
    shutil.copytree(dense_run("boxes").path, tmp_path / "run")
    shutil.copytree(coco_data, tmp_path / "data")
    shutil.copy(tmp_path / "data" / "val.json", tmp_path / "data" / "holidays.json")
    shutil.copytree(tmp_path / "data" / "val", tmp_path / "data" / "holidays")
    answer = crosshead("evaluate", "run", "--split", "holidays", "--data-dir", "data", "--accelerator", "cpu")
    assert (answer.code, answer.err) == (0, "")
    assert "run: 4 holidays images" in answer.out
    assert (tmp_path / "run" / "holidays-examples.png").is_file()
    missing = crosshead("evaluate", "run", "--split", "none", "--data-dir", "data")
    assert missing.code == 1
    assert "none" in missing.err
    assert missing.err.count("\n") == 1

"""The commands on runs of segmentation, detection and change; `tests/runs` looks at what they rest on."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

TINY = [
    *("--model-args", "stem_stride=1", "depths=[1,1,1,1]", "dims=[8,16,16,16]", "head_dim=8"),
    *("attention_stages=[1,2]", "landmarks=[2,2,2,1]", "kernel_size=3", "mlp_ratio=3"),
    *("--batch-size", "4", "--threads", "1", "--accelerator", "cpu"),
]
# Which recipe gives a run like that of the fixture `dense_run`.
FLAGS = {
    "segment": ["segment", "--crop", "32", "--decoder", "fpn", "--decoder-dim", "64", "--workers", "0"],
    "boxes": ["bccd", "--pyramid-dim", "32", "--rois", "16", "--anchor-sizes", "4", "8", "16", "24", "32"],
    "change": ["change", "--block", "10", "--dim", "16", "--crop", "16", "--crops", "8", "--tile", "24"],
}
SCORES = {"segment": "mean IoU", "boxes": "box AP", "masks": "mask AP", "change": "F1"}
LAST = {"segment": "val_mean_iou", "boxes": "val_box_ap", "masks": "val_mask_ap", "change": "val_f1"}


def no_number(value: str) -> None:
    raise AssertionError(f"{value} is no JSON")


def strict(text: str) -> Any:
    return json.loads(text, parse_constant=no_number)


@pytest.fixture
def copied(dense_run, tmp_path) -> Callable[[str], Path]:
    """Gives a copy of a finished run, to be written into."""
    return lambda name: Path(shutil.copytree(dense_run(name).path, tmp_path / name))


@pytest.fixture
def picture(tmp_path) -> Path:
    """Noise of 53 x 17 pixels."""
    Image.effect_noise((53, 17), 90).convert("RGB").save(tmp_path / "noise.png")
    return tmp_path / "noise.png"


@pytest.fixture
def dates(tmp_path) -> tuple[Path, Path]:
    """Two dates of noise, 30 x 20 pixels."""
    for name in ("t1", "t2"):
        Image.effect_noise((30, 20), 90).convert("RGB").save(tmp_path / f"{name}.png")
    return tmp_path / "t1.png", tmp_path / "t2.png"


@pytest.fixture
def of_task(picture, dates) -> Callable[[str], tuple[Path, ...]]:
    return lambda name: dates if name == "change" else (picture,)


@pytest.mark.parametrize("name", FLAGS)
def test_a_training_tells_its_course_and_what_to_do_next(crosshead, dense_recipe, trained, name):
    more = ["--epochs", "2", "--val-every", "2"]
    recipe, *flags = FLAGS[name]
    answer = crosshead(
        "train", recipe, *flags, *TINY, *more, "--data-dir", dense_recipe(name).data_dir, "--from", trained
    )
    assert (answer.code, answer.err) == (0, "")
    lines = answer.out.splitlines()
    assert lines[0].startswith(f"started from {trained}: ")
    # The first layer takes other bands; all else of the backbone is taken over.
    (reshaped,) = (line for line in lines if "of another shape, initialised afresh: " in line)
    assert reshaped.startswith("1 of another shape")
    assert "stem" in reshaped
    run = f"runs/{recipe}-1"
    (what,) = (line for line in lines if "parameters" in line)
    if name == "change":
        assert "8 training crops and 1 validation image pairs" in what
    else:
        assert "8 training and 4 validation images" in what
    first, second = (line for line in lines if line.startswith("epoch "))
    assert first.startswith("epoch 1/2  training loss")
    assert "  validation" not in first
    assert second.startswith("epoch 2/2  training loss")
    assert f" {SCORES[name]} " in second
    (end,) = (line for line in lines if line.startswith(f"validation {SCORES[name]} "))
    assert "after epoch 2, best" in end
    assert end.count("after epoch 2") == 2
    assert f"next: crosshead evaluate {run}" in lines
    inputs = "BEFORE... AFTER..." if name == "change" else "IMAGE"
    assert f"      crosshead predict {run} {inputs}" in lines


@pytest.mark.parametrize("name", LAST)
@pytest.mark.usefixtures("val_for_test")
def test_an_evaluation_of_the_validation_set_agrees_with_the_last_epoch(crosshead, copied, name):
    run = copied(name)
    answer = crosshead("evaluate", name)
    assert (answer.code, answer.err) == (0, "")
    figures = strict((run / "evaluation.json").read_text())
    header, row = ((run / "metrics.csv").read_text().splitlines()[index].split(",") for index in (0, -1))
    last = dict(zip(header, row, strict=True))
    assert figures["weights"] == "last"
    if name in ("boxes", "masks"):
        kinds = ["box", "mask"] if name == "masks" else ["box"]
        for kind in kinds:
            for figure in ("ap", "ap50"):
                assert figures[kind][figure] == pytest.approx(float(last[f"val_{kind}_{figure}"]), abs=1e-6)
        assert (figures["mask"] is None) == (name == "boxes")
        assert figures["max_detections"] == 100
        assert set(figures[kinds[-1]]["per_class"]) == {"red", "blue"}
    else:
        columns = {
            "segment": ("pixel_accuracy", "mean_iou"),
            "change": ("accuracy", "kappa", "auc", "f1"),
        }[name]
        for figure in columns:
            assert figures[figure] == pytest.approx(float(last[f"val_{figure}"]), rel=1e-4)
    if name == "segment":
        # Every pixel but the crowd.
        assert sum(map(sum, figures["confusion"])) == 4 * 40 * 32 - 40
    assert figures["images"] == (1 if name == "change" else 4)
    assert SCORES[name] in answer.out
    for file in ("examples.png", *(["confusion.png"] if name == "segment" else [])):
        assert f"{file.removesuffix('.png')}: {name}/{file}" in answer.out
        with Image.open(run / file) as drawn:
            drawn.load()
            assert drawn.width > 100


def test_a_batch_size_has_no_use_where_images_are_measured_one_by_one(crosshead, copied):
    for name in ("segment", "boxes", "change"):
        copied(name)
        answer = crosshead("evaluate", name, "--batch-size", "2")
        assert answer.code == 1
        assert answer.err.startswith("error: batch_size=2 has no use: images of any size are measured one by")
        assert answer.err.count("\n") == 1


def test_data_of_other_classes_are_refused(crosshead, copied, write_label_data, tmp_path):
    copied("segment")
    root = write_label_data(tmp_path / "other")
    (root / "classes.txt").write_text("background\nwarm\ncold\n")
    answer = crosshead("evaluate", "segment", "--data-dir", root)
    assert answer.code == 1
    assert "the data have 3 channels and the classes background, warm, cold, the run 3 and " in answer.err
    assert answer.err.count("\n") == 1


def test_a_test_set_without_a_label_has_figures_that_are_json(crosshead, copied, write_label_data, tmp_path):
    run, root = copied("segment"), write_label_data(tmp_path / "other")
    for path in (root / "test" / "labels").iterdir():
        Image.new("L", (40, 32), 255).save(path)
    answer = crosshead("evaluate", "segment", "--data-dir", root)
    assert (answer.code, answer.err) == (0, "")
    figures = strict((run / "evaluation.json").read_text())
    assert figures["mean_iou"] is figures["pixel_accuracy"] is figures["mean_accuracy"] is None
    assert figures["per_class_iou"] == {"background": None, "red": None, "blue": None}
    assert "nan" not in answer.out
    assert "nothing to measure" in answer.out


def test_a_test_set_without_an_object_has_figures_that_are_json(crosshead, copied, write_coco_data, tmp_path):
    run, root = copied("masks"), write_coco_data(tmp_path / "other")
    document = json.loads((root / "test.json").read_text())
    (root / "test.json").write_text(json.dumps({**document, "annotations": []}))
    answer = crosshead("evaluate", "masks", "--data-dir", root)
    assert (answer.code, answer.err) == (0, "")
    figures = strict((run / "evaluation.json").read_text())
    for kind in ("box", "mask"):
        assert figures[kind]["ap"] is figures[kind]["ap50"] is figures[kind]["small"] is None
        assert figures[kind]["per_class"] == {"red": None, "blue": None}
    assert "nothing to find" in answer.out
    assert "nothing to measure" in answer.out


@pytest.mark.parametrize("name", LAST)
def test_a_prediction_is_written_and_told(crosshead, copied, of_task, name):
    run, inputs = copied(name), of_task(name)
    answer = crosshead("predict", name, *inputs)
    assert (answer.code, answer.err) == (0, "")
    first, *written = answer.out.splitlines()
    assert first.startswith(f"{inputs[0]}: ")
    ends = [".png", ".json"] if name in ("boxes", "masks") else [".png", ".labels.png", ".json"]
    assert written == [f"  {name}/predictions/{inputs[0].stem}{end}" for end in ends]
    assert {path.name for path in (run / "predictions").iterdir()} == {Path(line).name for line in written}
    content = strict((run / "predictions" / f"{inputs[0].stem}.json").read_text())
    assert content["image"] == str(inputs[0])
    with Image.open(inputs[0]) as image:
        assert content["size"] == list(image.size)
    with Image.open(run / "predictions" / f"{inputs[0].stem}.png") as drawn:
        drawn.load()
    told = crosshead("predict", name, *inputs, "--json", "--out", "elsewhere", "--best")
    assert strict(told.out) == [content]
    assert {path.name for path in Path("elsewhere").iterdir()} == {Path(line).name for line in written}


@pytest.mark.parametrize(
    ("name", "option", "task"),
    [
        ("segment", "--min-score", "segment"),
        ("segment", "--top", "segment"),
        ("boxes", "--top", "detect"),
        ("change", "--min-score", "change"),
        ("digits", "--tile", "classify"),
        ("digits", "--min-score", "classify"),
    ],
)
def test_an_option_of_another_task_is_refused(crosshead, dense_run, trained, of_task, name, option, task):
    run = trained if name == "digits" else dense_run(name).path
    answer = crosshead("predict", run, *of_task(name), option, "1")
    assert answer.code == 1
    assert answer.err == (f"error: {option} has no meaning for {task}, the task of {run}: leave it out\n")
    assert not (run / "predictions").exists()


def test_scores_decide_which_objects_are_told(crosshead, copied, picture):
    copied("boxes")
    counts = []
    for score in ("0", "1"):
        answer = crosshead("predict", "boxes", picture, "--min-score", score, "--json")
        assert answer.code == 0
        counts.append(len(strict(answer.out)[0]["objects"]))
    assert counts[0] > 3
    assert counts[1] == 0
    answer = crosshead("predict", "boxes", picture, "--min-score", "2")
    assert (answer.code, answer.err) == (1, "error: min_score must be a number between 0 and 1; got 2.0\n")


@pytest.mark.parametrize("name", ["segment", "boxes"])
def test_inputs_of_one_name_do_not_overwrite_each_other(crosshead, copied, tmp_path, name):
    run = copied(name)
    paths = []
    for folder, size in (("a", (20, 30)), ("b", (30, 20))):
        (tmp_path / folder).mkdir()
        Image.new("L", size).save(tmp_path / folder / "bird.png")
        paths.append(tmp_path / folder / "bird.png")
    for _ in range(2):
        assert crosshead("predict", name, *paths).code == 0
    found = {path.name: json.loads(path.read_text()) for path in (run / "predictions").glob("*.json")}
    assert set(found) == {"bird.json", "bird-2.json"}
    assert [found[file]["size"] for file in ("bird.json", "bird-2.json")] == [[20, 30], [30, 20]]


@pytest.mark.parametrize("name", ["segment", "boxes"])
def test_an_unreadable_image_does_not_keep_the_others_from_being_answered(
    crosshead, copied, picture, tmp_path, name
):
    run = copied(name)
    (tmp_path / "bad.png").write_bytes(picture.read_bytes()[:60])
    answer = crosshead("predict", name, tmp_path / "bad.png", picture)
    assert answer.code == 1
    assert answer.err.startswith(f"error: {tmp_path / 'bad.png'}: not readable as an image")
    assert answer.err.count("\n") == 1
    assert (run / "predictions" / "noise.json").exists()
    assert not (run / "predictions" / "bad.json").exists()


def test_dates_that_do_not_fit_are_refused_by_name(crosshead, copied, dates, tmp_path):
    run, (before, after) = copied("change"), dates
    Image.new("RGB", (31, 20)).save(tmp_path / "wide.png")
    np.save(tmp_path / "two.npy", np.zeros((2, 20, 30), np.float32))
    for paths, message in (
        (
            (before,),
            "1 file for two dates: give the files of the earlier date, then as many of the later one",
        ),
        ((before, after, after), "3 files for two dates"),
        ((before, "wide.png"), f"wide.png: 31 x 20 pixels, and {before} has 30 x 20"),
        ((before, "two.npy"), "two.npy: 2 channels in the files of its date, and the net takes 3"),
    ):
        answer = crosshead("predict", "change", *paths)
        assert answer.code == 1
        assert answer.err.startswith(f"error: {message}")
        assert answer.err.count("\n") == 1
    assert not (run / "predictions").exists()

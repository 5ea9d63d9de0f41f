import csv
import json

import pytest
from PIL import Image

from crosshead.tasks.video import read_frames, write_frames


def test_an_image_gets_its_classes_ranked(crosshead, trained, digit):
    answer = crosshead("predict", trained, digit, "--top", "3")
    assert answer.code == 0
    assert answer.err == ""
    assert [row in answer.out for row in ("│    1 │", "│    3 │", "│    4 │")] == [True, True, False]


def test_json_goes_alone_to_the_output(crosshead, trained, digit, tmp_path):
    Image.new("RGB", (50, 30), "white").save(tmp_path / "white.jpg")
    answer = crosshead("predict", trained, digit, tmp_path / "white.jpg", "--json", "--top", "10")
    assert answer.code == 0
    predictions = json.loads(answer.out)
    assert [prediction["image"] for prediction in predictions] == [str(digit), str(tmp_path / "white.jpg")]
    for prediction in predictions:
        probabilities = [ranked["probability"] for ranked in prediction["classes"]]
        assert probabilities == sorted(probabilities, reverse=True)
        assert sum(probabilities) == pytest.approx(1, abs=1e-5)
        assert {ranked["name"] for ranked in prediction["classes"]} == set("0123456789")


def test_a_bad_image_is_named_and_the_others_are_answered(crosshead, trained, digit, tmp_path):
    (tmp_path / "bad.png").write_bytes(digit.read_bytes()[:50])
    answer = crosshead("predict", trained, tmp_path / "bad.png", digit, "--json")
    assert answer.code == 1
    assert answer.err.startswith(f"error: {tmp_path / 'bad.png'}: not readable as an image")
    assert answer.err.count("\n") == 1
    assert [prediction["image"] for prediction in json.loads(answer.out)] == [str(digit)]


def test_no_class_at_all_is_refused(crosshead, trained, digit):
    answer = crosshead("predict", trained, digit, "--top", "0")
    assert answer.code == 1
    assert answer.err == "error: top is 0: give 1 or more\n"


def test_many_images_have_a_line_each_and_one_table(crosshead, trained, digit, tmp_path):
    (tmp_path / "digits").mkdir()
    for number in range(6):
        (tmp_path / "digits" / f"{number}.png").write_bytes(digit.read_bytes())
    (tmp_path / "digits" / "bad.png").write_bytes(b"nothing")
    answer = crosshead(
        "predict",
        trained,
        "digits",
        "--top",
        "2",
        "--csv",
        "all.csv",
        "--jsonl",
        "all.jsonl",
        "--out",
        "seen",
    )
    assert answer.code == 1
    assert answer.err.startswith("error: digits/bad.png: not readable as an image")
    lines = answer.out.splitlines()
    assert [line.partition(":")[0] for line in lines[:6]] == [f"digits/{number}.png" for number in range(6)]
    assert lines[6:] == ["pictures and JSON files: seen", "written: all.csv", "written: all.jsonl"]
    rows = list(csv.DictReader((tmp_path / "all.csv").open()))
    assert len(rows) == 12
    assert [rows[2]["image"], rows[2]["rank"]] == ["digits/1.png", "1"]
    contents = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    assert [content["image"] for content in contents] == [f"digits/{number}.png" for number in range(6)]
    assert float(rows[2]["probability"]) == contents[1]["classes"][0]["probability"]
    assert (tmp_path / "seen" / "5.png").is_file()


def test_a_pattern_may_be_quoted_and_an_empty_folder_is_told(crosshead, trained, digit, tmp_path):
    (tmp_path / "empty").mkdir()
    answer = crosshead("predict", trained, digit.parent / "*.png", "empty", "--json")
    assert answer.code == 1
    assert answer.err == "error: empty: no image below this folder; give one that holds images\n"
    assert [prediction["image"] for prediction in json.loads(answer.out)] == [str(digit)]


def test_a_video_becomes_a_video(crosshead, trained, digit, tmp_path):
    pytest.importorskip("av")
    frames = [Image.open(digit).resize((64, 64))] * 3
    write_frames(tmp_path / "film.mp4", frames, rate=5)
    answer = crosshead("predict", trained, "film.mp4", "--out", "seen", "--jsonl", "all.jsonl", "--top", "1")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.splitlines() == ["film.mp4: 3 frames", "  seen/film.mp4", "written: all.jsonl"]
    assert len(list(read_frames(tmp_path / "seen" / "film.mp4"))) == 3
    contents = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    assert [content["image"] for content in contents] == ["film.mp4#0", "film.mp4#1", "film.mp4#2"]


def test_flags_of_other_tasks_are_refused(crosshead, trained, digit):
    answer = crosshead("predict", trained, digit, "--coco", "all.json")
    assert answer.code == 1
    assert answer.err.startswith("error: COCO's format holds objects, and only a detector finds them")
    for flags in (("--tile", "8"), ("--min-score", "0.3")):
        answer = crosshead("predict", trained, digit, *flags)
        assert answer.code == 1
        assert (
            answer.err
            == f"error: {flags[0]} has no meaning for classify, the task of {trained}: leave it out\n"
        )

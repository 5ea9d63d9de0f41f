import json

import pytest
from PIL import Image


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

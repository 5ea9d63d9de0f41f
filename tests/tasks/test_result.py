import json

import pytest

from crosshead.runs.predictions import write_prediction
from crosshead.tasks.task import Prediction


def prediction(image: str, *, picture: bytes = b"picture") -> Prediction:
    return Prediction(
        name="bird", summary="a bird", content={"image": image, "birds": 1}, files={".png": picture}
    )


def names(folder) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_prediction_is_written_with_its_json_last_into_a_new_folder(tmp_path):
    folder = tmp_path / "a" / "b"
    written = write_prediction(folder, prediction("bird.png"))
    assert written == [folder / "bird.png", folder / "bird.json"]
    assert written[0].read_bytes() == b"picture"
    assert json.loads(written[1].read_text()) == {"image": "bird.png", "birds": 1}
    assert names(folder) == {"bird.png", "bird.json"}


def test_the_same_image_is_written_over_and_another_one_of_its_name_is_not(tmp_path):
    write_prediction(tmp_path, prediction("x/bird.png"))
    other = write_prediction(tmp_path, prediction("y/bird.png", picture=b"other"))
    assert [path.name for path in other] == ["bird-2.png", "bird-2.json"]
    for image, stem in (("x/bird.png", "bird"), ("y/bird.png", "bird-2"), ("z/bird.png", "bird-3")):
        again = write_prediction(tmp_path, prediction(image, picture=image.encode()))
        assert [path.name for path in again] == [f"{stem}.png", f"{stem}.json"]
        assert again[0].read_bytes() == image.encode()
    assert len(names(tmp_path)) == 6


@pytest.mark.parametrize("content", [None, b"{", b"[]", b"{}", b'{"image": "other"}', b"\xff"])
def test_what_is_no_prediction_of_this_image_is_never_written_over(tmp_path, content):
    (tmp_path / "bird.png").write_bytes(b"a photo")
    if content is not None:
        (tmp_path / "bird.json").write_bytes(content)
    written = write_prediction(tmp_path, prediction("bird.png"))
    assert [path.name for path in written] == ["bird-2.png", "bird-2.json"]
    assert (tmp_path / "bird.png").read_bytes() == b"a photo"
    if content is not None:
        assert (tmp_path / "bird.json").read_bytes() == content

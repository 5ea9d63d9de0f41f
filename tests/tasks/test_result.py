import json
from dataclasses import dataclass

import pytest
from PIL import Image

from crosshead.tasks.result import Result


@dataclass(frozen=True, kw_only=True)
class Birds(Result):
    color: str = "red"

    @property
    def summary(self) -> str:
        return "a bird"

    def to_dict(self):
        return {"image": self.source, "birds": 1}

    def rows(self):
        return [{"image": self.source, "bird": 1}]

    def plot(self):
        return Image.new("RGB", (4, 3), self.color)

    def maps(self):
        return {".nest.png": Image.new("L", (2, 2), 7)}


def result(source: str, **changes) -> Birds:
    return Birds(name="bird", source=source, **changes)


def names(folder) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_result_is_written_with_its_json_last_into_a_new_folder(tmp_path):
    folder = tmp_path / "a" / "b"
    written = result("bird.png").save(folder)
    assert written == [folder / "bird.png", folder / "bird.nest.png", folder / "bird.json"]
    assert Image.open(written[0]).getpixel((0, 0)) == (255, 0, 0)
    assert Image.open(written[1]).getpixel((0, 0)) == 7
    assert json.loads(written[2].read_text()) == {"image": "bird.png", "birds": 1}
    assert names(folder) == {"bird.png", "bird.nest.png", "bird.json"}


def test_the_json_is_the_dictionary(tmp_path):
    assert json.loads(result("bird.png").to_json()) == result("bird.png").to_dict()


def test_the_same_input_is_written_over_and_another_one_of_its_name_is_not(tmp_path):
    result("x/bird.png").save(str(tmp_path))
    other = result("y/bird.png", color="blue").save(tmp_path)
    assert [path.name for path in other] == ["bird-2.png", "bird-2.nest.png", "bird-2.json"]
    for color, (source, stem) in zip(
        ("lime", "white", "black"),
        (("x/bird.png", "bird"), ("y/bird.png", "bird-2"), ("z/bird.png", "bird-3")),
        strict=True,
    ):
        again = result(source, color=color).save(tmp_path)
        assert [path.name for path in again] == [f"{stem}.png", f"{stem}.nest.png", f"{stem}.json"]
        assert Image.open(again[0]).getpixel((0, 0)) == Image.new("RGB", (1, 1), color).getpixel((0, 0))
    assert len(names(tmp_path)) == 9


@pytest.mark.parametrize("content", [None, b"{", b"[]", b"{}", b'{"image": "other"}', b"\xff"])
def test_what_is_no_result_of_this_input_is_never_written_over(tmp_path, content):
    (tmp_path / "bird.png").write_bytes(b"a photo")
    if content is not None:
        (tmp_path / "bird.json").write_bytes(content)
    written = result("bird.png").save(tmp_path)
    assert [path.name for path in written] == ["bird-2.png", "bird-2.nest.png", "bird-2.json"]
    assert (tmp_path / "bird.png").read_bytes() == b"a photo"
    if content is not None:
        assert (tmp_path / "bird.json").read_bytes() == content

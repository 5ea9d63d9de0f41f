"""The page in a browser, opened as a file: what is pointed at is what is shown, with the oracle's numbers."""

import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import crosshead
from crosshead.explain.landmarks import landmark_sources, listening
from crosshead.explain.layers import attention_layers
from crosshead.explain.look import look
from crosshead.explain.maps import map_columns, map_rows
from crosshead.explain.page.build import build_page
from crosshead.explain.write import write_explanation
from crosshead.runs.trained import TrainedModel

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no chromium")

# Plays a user, who is given as `play`.
USER = (Path(__file__).parent / "user.js").read_text()


@pytest.fixture
def played(tmp_path) -> Callable[[str, str], dict[str, Any]]:
    """What a user saw: `played(page, "shown.x = ...")`."""

    def play(page: str, script: str) -> dict[str, Any]:
        assert BROWSER is not None
        path = tmp_path / "page.html"
        user = f'<pre id="seen"></pre><script>{USER}\nfunction play() {{ {script} }}</script>'
        path.write_text(page.replace("</body>", f"{user}</body>"))
        flags = ["--headless", "--disable-gpu", "--no-sandbox", f"--user-data-dir={tmp_path}/profile"]
        flags += ["--enable-logging=stderr", "--window-size=1200,900", "--virtual-time-budget=60000"]
        command = [BROWSER, *flags, "--dump-dom", path.as_uri()]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        assert "CONSOLE" not in answer.stderr, answer.stderr
        found = re.search(r'<pre id="seen">(.*?)</pre>', answer.stdout, re.DOTALL)
        assert found is not None
        seen = json.loads(html.unescape(found[1]))
        assert seen.pop("errors") == []
        return seen

    return play


@pytest.fixture(scope="module")
def segmenter(dense_run) -> TrainedModel:
    """A net whose heads talk."""
    model = crosshead.load(dense_run("segment").path, accelerator="cpu")
    torch.manual_seed(0)
    for layer in attention_layers(model.net).values():
        for mixing in (layer.query_mixing, layer.key_mixing):
            for matrix in mixing.parameters():
                matrix.data.normal_(std=0.4)
    return model


@pytest.fixture(scope="module")
def image(label_data) -> Path:
    return label_data / "val" / "images" / "1.png"


def number(text: str, words: str) -> float:
    found = re.search(rf"{words} (-?[\d.e-]+\d)", text)
    assert found is not None
    return float(found[1])


def test_pointing_at_a_patch_shows_its_row_and_its_column(played, segmenter, image):
    seen = look(segmenter, image)
    call = seen.recording[0]
    rows, columns = call.grid
    found = played(
        build_page(seen, title="photo", relevances={}),
        f"""
        shown.before = $("told").textContent;
        point("map", [2, 3], [{rows}, {columns}]);
        shown.row = $("told").textContent;
        shown.lit = coloured($("map"), [{rows}, {columns}]);
        shown.landmark = $("field-caption").textContent;
        $("head").value = 1; $("head").dispatchEvent(new Event("change"));
        document.querySelector("input[value=column]").click();
        shown.column = $("told").textContent;
        shown.columnLit = coloured($("map"), [{rows}, {columns}]);
        """,
    )
    assert found["before"] != found["row"]
    for head, kind, lit in ((0, "row", "lit"), (1, "column", "columnLit")):
        maps = map_rows if kind == "row" else map_columns
        values = maps(call, (2, 3), heads=head)[0, 0].flatten()
        best = int(values.abs().argmax())
        assert f"head {head}: patch (2, 3)" in found[kind]
        assert f"patch ({best // columns}, {best % columns}): weight" in found[kind]
        assert number(found[kind], "weight") == pytest.approx(float(values[best]), rel=6e-3)
        assert found[lit] == best

    row = map_rows(call, (2, 3), heads=0)[0, 0, 0]
    times = float(row[row.abs().argmax()]) * len(row)
    assert number(found["row"], "weight -?[0-9.e-]+,") == pytest.approx(times, rel=6e-3)
    heard = listening(call, (2, 3), heads=0)
    landmark = int(heard.landmark)
    assert f"Landmark {landmark} carries most of what it gets, weight" in found["row"]
    assert number(found["row"], "gets, weight") == pytest.approx(float(heard.weight), rel=6e-3)
    source = int(landmark_sources(call, landmark, heads=0)[0, 0, 0].abs().argmax())
    assert (
        f"landmark {landmark} gathers from, most from patch ({source // columns}, {source % columns})"
        in (found["landmark"])
    )


def test_keys_move_hold_and_change(played, segmenter, image):
    found = played(
        build_page(look(segmenter, image), title="photo", relevances={}),
        """
        const told = () => $("told").textContent.split(" looks")[0];
        point("map", [0, 0], [16, 20]);
        for (const to of ["Right", "Right", "Down", "Up", "Up"]) press($("map"), `Arrow${to}`);
        shown.moved = told();
        press($("map"), "Enter");
        point("map", [4, 4], [16, 20]);
        shown.held = told();
        press(document, "]");
        shown.head = told();
        press(document, ".");
        shown.layer = $("layer").value;
        press(document, ",");
        press(document, "d");
        shown.side = document.querySelector("input[name=side]:checked").value;
        """,
    )
    assert found["moved"].endswith("patch (0, 2)")
    assert found["held"] == found["moved"]
    assert "head 1" in found["head"]
    assert (found["layer"], found["side"]) == ("1", "column")


def test_pointing_at_two_heads_tells_what_one_gives_the_other(played, segmenter, image):
    seen = look(segmenter, image)
    layer = attention_layers(segmenter.net)[seen.recording[0].name]
    logits = layer.query_mixing.logits
    assert logits is not None
    entry = float(logits.data[1, 0])
    found = played(
        build_page(seen, title="photo", relevances={}),
        """
        $("mixing").querySelector("canvas").id = "first";
        point("first", [1, 0], [2, 2]);
        shown.told = $("pair-told").textContent;
        shown.maps = $("pair").querySelectorAll("canvas").length;
        """,
    )
    assert found["told"].startswith("Head 1 takes of head 0: query logits")
    assert number(found["told"], "query logits") == pytest.approx(entry, rel=6e-3)
    assert "Without it what head 1 gives would change by" in found["told"]
    assert found["maps"] == 2


def test_a_teacher_stands_beside_a_linearized_net(played, dense_run, image, tmp_path):
    model = crosshead.load(dense_run("linearize").path, accelerator="cpu")
    (page,) = write_explanation(model, image, tmp_path / "pages", with_sheets=False, size=24)
    found = played(
        page.read_text(),
        """
        shown.hidden = $("teacher-figure").hidden;
        shown.caption = $("teacher-caption").textContent;
        document.querySelector("#prefix button").click();
        shown.told = $("told").textContent;
        """,
    )
    assert not found["hidden"]
    assert "softmax attention of head 0" in found["caption"]
    assert "prefix token 0 looks most at" in found["told"]

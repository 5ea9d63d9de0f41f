"""The page in demo/, in a browser: it ranks classes as the run does, and what a file says is text."""

import functools
import html
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from crosshead.export.onnx_file import onnx_with
from crosshead.export.write import export_run
from crosshead.runs.folder import RunFolder
from crosshead.runs.load import load_run
from crosshead.tasks.classify.transforms import eval_transform
from crosshead.tasks.images import read_image

DEMO = Path(__file__).parents[2] / "demo"
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="there is no chromium"),
    pytest.mark.skipif(not (DEMO / "vendor").is_dir(), reason="`make browser-demo` has not been run"),
]


# The browser's virtual time runs out while a slow machine compiles ONNX Runtime, but not while a request is
# pending: this one is, until the page says that it is ready.
HOLD = """
fetch("hold");
new MutationObserver(() => fetch("ready")).observe(document.body, { attributeFilter: ["data-ready"] });
"""


class Holding(SimpleHTTPRequestHandler):
    ready = threading.Event()

    def do_GET(self) -> None:
        if self.path == "/hold":
            self.ready.clear()
            self.ready.wait(60)
        elif self.path == "/ready":
            self.ready.set()
        else:
            super().do_GET()
            return
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def run(command_line, tmp_path_factory) -> RunFolder:
    folder = tmp_path_factory.mktemp("demo") / "run"
    net = ["--model", "test_resnet", "--epochs", "1", "--threads", "1", "--accelerator", "cpu"]
    assert command_line("train", "digits", *net, "--out", folder, "--batch-size", "256") == 0
    return RunFolder(folder)


@pytest.fixture(scope="module")
def site(run, tmp_path_factory) -> Iterator[tuple[Path, str]]:
    """A static server over a copy of the page, with a classifier and a picture beside it."""
    folder = tmp_path_factory.mktemp("site") / "demo"
    shutil.copytree(DEMO, folder)
    page = folder / "index.html"
    page.write_text(page.read_text() + '<script src="hold.js"></script>')
    (folder / "hold.js").write_text(HOLD)
    export_run(run, to=folder / "digits.onnx")
    pixels = np.random.default_rng(0).integers(0, 256, (24, 31, 3)).astype(np.uint8)
    Image.fromarray(pixels).resize((53, 40), Image.Resampling.BICUBIC).save(folder / "picture.png")
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Holding, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture
def opened(site, tmp_path) -> Callable[[str], str]:
    """What the page has become: `opened("digits.onnx")`."""

    def open_page(model: str) -> str:
        assert BROWSER is not None
        flags = ["--headless", "--disable-gpu", "--no-sandbox", f"--user-data-dir={tmp_path}/profile"]
        address = f"{site[1]}/index.html?model={model}&picture=picture.png"
        command = [BROWSER, *flags, "--virtual-time-budget=60000", "--dump-dom", address]
        page = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
        assert 'data-ready="true"' in page
        return page

    return open_page


def ranked(page: str) -> list[tuple[str, float]]:
    found = re.findall(r"<li><span>(.*?)</span><meter.*?></meter><b>(.*?)%</b></li>", page)
    return [(html.unescape(name), float(number)) for name, number in found]


def test_the_page_ranks_classes_as_the_run_does(opened, run, site):
    record, net = load_run(run)
    meta: Any = record.meta
    prepare = eval_transform(image_size=meta.image_size, mean=meta.mean, std=meta.std)
    with torch.no_grad():
        image = prepare(read_image(site[0] / "picture.png", mode="L"))
        best = net(image[None])[0].softmax(0).topk(5)
    found = ranked(opened("digits.onnx"))
    assert [name for name, _ in found] == [meta.classes[number] for number in best.indices.tolist()]
    # A pixel may be rounded to the other side.
    expected = [100 * value for value in best.values.tolist()]
    assert [number for _, number in found] == pytest.approx(expected, abs=0.3)


def changed(site: tuple[Path, str], name: str, **changes: Any) -> str:
    folder, _ = site
    metadata = json.loads((folder / "digits.json").read_text())
    content = onnx_with((folder / "digits.onnx").read_bytes(), json.dumps({**metadata, **changes}))
    (folder / name).write_bytes(content)
    return name


def test_names_of_classes_are_text(opened, site):
    names = [f"<img src=x onerror=\"document.title='taken'\">{number}" for number in range(10)]
    page = opened(changed(site, "hostile.onnx", classes=names))
    assert {name for name, _ in ranked(page)} < set(names)
    assert "<img src=" not in page.partition('<ol id="ranked">')[2]
    assert "<title>taken" not in page


def test_what_is_no_classifier_is_said_in_words(opened, site):
    newer = opened(changed(site, "newer.onnx", format=9))
    assert "the file is of format 9; this page reads 1" in newer
    (site[0] / "damaged.onnx").write_bytes(b"\x0f nothing of the kind")
    assert "the file is damaged, or no ONNX file" in opened("damaged.onnx")
    assert "gone.onnx cannot be fetched" in opened("gone.onnx")

"""Every Python block of README.md and docs/ runs.

That of export.md does so in tests/export, where its file is made; that of scaling.md, on several processes,
in test_scaling.py. The blocks of a page run in their order in one namespace, as a reader would paste them,
in a folder where RUN, runs/digits-1, runs/bccd-1 and runs/linearize-1 are finished runs, and photo.jpg and
photos/ images.
There is no network: timm gives random weights where published ones are asked for by name; nothing else is
replaced, and no block is left out.
"""

import re
import socket
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ELSEWHERE = {"export.md", "scaling.md"}


def snippets(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", page.read_text(), flags=re.DOTALL | re.MULTILINE)


@pytest.fixture
def reader(tmp_path, monkeypatch, digits_run, dense_run) -> Path:
    """A folder with the runs that pages name, and no way into a network."""

    def without_weights(name: str, pretrained: bool = False, **options: Any) -> torch.nn.Module:
        return create(name, pretrained=pretrained and name.startswith("local-dir:"), **options)

    def refuse(*_: object) -> None:
        raise AssertionError("a snippet reaches for the network")

    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", without_weights)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    for name, run in {"RUN": digits_run, "runs/digits-1": digits_run}.items():
        (tmp_path / name).symlink_to(run)
    (tmp_path / "photos").mkdir()
    for name in ("photo.jpg", "photos/1.jpg", "photos/2.jpg"):
        Image.effect_noise((40, 32), 90).convert("RGB").save(tmp_path / name)
    (tmp_path / "runs/bccd-1").symlink_to(dense_run("boxes").path)
    (tmp_path / "runs/linearize-1").symlink_to(dense_run("linearize").path)
    return tmp_path


def run(page: Path) -> dict[str, Any]:
    """Runs the blocks of a page; answers the names that they leave."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, code in enumerate(snippets(page), start=1):
        exec(compile(code, f"{page.name}, Python block {number}", "exec"), names)
    return names


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if snippets(page) and page.name not in ELSEWHERE],
    ids=lambda page: page.name,
)
def test_every_snippet_runs(page):
    names = run(page)
    if page.name == "use.md":
        # The last net of the page is read by timm: it has the trained weights.
        trained = load_file("RUN/model/model.safetensors")
        loaded = names["net"].state_dict()
        assert loaded.keys() == trained.keys()
        assert all(torch.equal(loaded[name], trained[name]) for name in trained)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_models_of_ours_are_registered_before_they_are_named(page):
    """This process knows them already, that of a reader does not."""
    code = "\n".join(snippets(page))
    named = re.search(r"create_model\(\s*\"(ivit|local-dir)", code)
    if named:
        assert re.search(r"^(import|from) crosshead\.vision", code[: named.start()], flags=re.MULTILINE)


def test_who_reads_a_model_folder_by_timm_is_told_to_ask_for_its_weights():
    texts = [path.read_text() for path in (*PAGES, *(ROOT / "src").rglob("*.py"))]
    lines = [line for text in texts for line in re.findall(r"create_model\(f?\"local-dir:[^)]*\)", text)]
    assert len(lines) > 3
    assert [line for line in lines if "pretrained=True" not in line] == []

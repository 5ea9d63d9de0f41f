"""The pages make a site: no warning, no link that leads nowhere, every public name in the reference."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import crosshead
import crosshead.rivals
import crosshead.vision

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    pytest.importorskip("sphinx", reason="the site needs crosshead[docs]")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", str(folder / "doctrees")]
    # `make docs` runs the tutorials, which takes minutes.
    command += ["-D", "nb_execution_mode=off", "-D", "suppress_warnings=myst-nb.lexer"]
    built = subprocess.run(
        [*command, "-b", "html", str(ROOT / "docs"), str(folder / "html")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (built.returncode, built.stderr) == (0, "")
    return folder / "html"


def test_every_page_is_built_and_in_the_contents(site):
    pages = {page.relative_to(ROOT / "docs").with_suffix(".html") for page in (ROOT / "docs").rglob("*.md")}
    contents = (site / "index.html").read_text()
    for page in pages:
        assert (site / page).is_file()
        assert page.name == "index.html" or f'href="{page.as_posix()}"' in contents


def test_links_and_pictures_lead_to_files_and_places_that_are_there(site):
    found = 0
    for page in site.rglob("*.html"):
        text = page.read_text()
        for target in re.findall(r'(?:href|src)="([^"]+)"', text):
            if re.match(r"[a-z]+:|//", target):
                continue
            found += 1
            path, _, place = target.partition("?")[0].partition("#")
            file = (page.parent / path).resolve() if path else page
            assert file.exists(), f"{page.name}: {target}"
            if place and file.suffix == ".html":
                assert f'id="{place}"' in file.read_text(), f"{page.name}: {target}"
    assert found > 500


def test_the_reference_has_every_public_name(site):
    reference = (site / "api.html").read_text()
    names = [f"crosshead.{name}" for name in crosshead.__all__ if name != "__version__"]
    names += [
        f"{module.__name__}.{name}"
        for module in (crosshead.vision, crosshead.rivals)
        for name, value in vars(module).items()
        if callable(value) and not name.startswith("_")
    ]
    assert len(names) > 12
    assert [name for name in names if f'id="{name}"' not in reference] == []


@pytest.mark.parametrize(("command", "built"), [("echo sound", True), ("crosshead broken", False)])
def test_a_command_that_fails_in_a_tutorial_fails_the_build(command, built, tmp_path):
    pytest.importorskip("myst_nb", reason="tutorials need crosshead[docs]")
    (tmp_path / "index.md").write_text(
        "---\nfile_format: mystnb\nkernelspec:\n  name: python3\n---\n\n# Page\n\n"
        f"```{{code-cell}} python\n!{command}\n```\n"
    )
    sphinx = [sys.executable, "-m", "sphinx", "-W", "-q", "-c", str(ROOT / "docs"), "-b", "html"]
    done = subprocess.run(
        [*sphinx, str(tmp_path), str(tmp_path / "html")], capture_output=True, text=True, check=False
    )
    assert (done.returncode == 0) == built, done.stderr
    if built:
        assert "sound" in (tmp_path / "html" / "index.html").read_text()
    else:
        assert f"!{command} failed with exit code" in done.stderr

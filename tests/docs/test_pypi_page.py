"""What PyPI shows: README.md, made to stand alone by the build."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def page() -> str:
    command = [sys.executable, "-m", "hatch_fancy_pypi_readme"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_nothing_leads_into_a_tree_that_is_not_there(page):
    targets = re.findall(r"\]\(([^)]*)\)", page)
    assert targets
    assert [target for target in targets if not target.startswith("https://")] == []
    assert "![" not in page


def test_it_is_installed_by_pip_and_not_by_make(page):
    assert "pip install 'crosshead[train]'" in page
    assert "make " not in page.partition("## Use it when")[0]
    assert "'.[" not in page


def test_the_rest_is_the_readme_with_titles_of_pages_in_italics(page):
    _, found, rest = (ROOT / "README.md").read_text().partition("**The layer**")
    assert found
    shown = re.sub(r"\[([^]]+)\]\((?!https:)[^)]+\)", r"*\1*", rest)
    assert f"{found}{shown}\nPages in italics are in the source distribution.\n" in page

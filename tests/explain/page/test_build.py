"""A page is one file: nothing is fetched, and no text in it is more than text."""

import html.parser
from dataclasses import replace

import pytest
from PIL import Image

import crosshead
from crosshead.explain.look import look
from crosshead.explain.page.build import COUNTS, build_page, cells_within, data_uri

HOSTILE = "</script><script>document.title='taken'</script><img src=x onerror=alert(1)>&amp;$content"


class Tags(html.parser.HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def seen(dense_run, label_data):
    model = crosshead.load(dense_run("segment").path, accelerator="cpu")
    return look(model, label_data / "val" / "images" / "1.png")


def test_nothing_is_fetched(seen):
    page = build_page(seen, title="photo", relevances={})
    addresses = [
        value for _, given in Tags(page).found for name, value in given.items() if name in ("src", "href")
    ]
    assert not addresses
    assert "default-src 'none'" in page
    assert not [word for word in ("http:", "https:", "fetch(", "import", "url(") if word in page]


def test_what_a_file_is_called_is_text(seen):
    hostile = replace(seen, result=replace(seen.result, classes=(HOSTILE, "b", "c")))
    page = build_page(hostile, title=HOSTILE, relevances={})
    kinds = [tag for tag, _ in Tags(page).found]
    assert kinds == [tag for tag, _ in Tags(build_page(seen, title="photo", relevances={})).found]
    assert "<img src=x" not in page
    assert page.count("<script") == 3


def test_a_page_keeps_to_its_budget(seen):
    assert cells_within(seen) == COUNTS[0]
    assert cells_within(seen, budget=4_000) < COUNTS[0]
    assert cells_within(seen, budget=1) == COUNTS[-1]
    assert cells_within(seen, teacher=True, budget=9_000) < cells_within(seen, budget=9_000)
    small = build_page(seen, title="photo", relevances={}, count=16)
    assert len(small) < len(build_page(seen, title="photo", relevances={}))


def test_pictures_are_exact_where_they_are_small():
    assert data_uri(Image.new("RGB", (30, 20))).startswith("data:image/png;base64,")
    assert data_uri(Image.new("RGB", (3000, 20))).startswith("data:image/jpeg;base64,")

"""`crosshead models` prints the cost of every backbone."""

import subprocess
import sys

import crosshead.vision
from crosshead.cli.models import models
from crosshead.vision.variants import VARIANTS


def test_prints_every_backbone_with_its_cost(capsys, monkeypatch):
    def cost(name, *, image_size, **options):
        assert image_size == 64
        return crosshead.vision.Footprint(1_234_567 + len(name), 2_345_678_901, 98_765_432)

    monkeypatch.setattr(crosshead.vision, "footprint", cost)
    models(image_size=64)
    out = capsys.readouterr().out
    assert "64 x 64 pixels" in out
    for name in VARIANTS:
        (line,) = (line for line in out.splitlines() if name in line)
        assert [cell.strip() for cell in line.split("│")[2:5]] == ["1.23 M", "2.35 G", "98.8 M"]


def test_its_signature_costs_no_torch():
    check = "import sys, crosshead.cli.models; sys.exit('torch' in sys.modules or 'rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_an_image_without_pixels_is_refused_in_one_line(crosshead):
    answer = crosshead("models", "--image-size", "0")
    assert (answer.code, answer.err) == (1, "error: image_size must be 1 pixel or more; got 0\n")

"""Every command that README.md and docs/ show is understood as it stands, and runs.

To run in a second or two, a command gets further flags from the table `QUICK`; of a flag that is given twice
the second holds. `pytest -m slow` trains and measures for real, in little, by the table `SLOW`. A
command that no line of `QUICK` begins is not known here, and fails.

DIR is a small data set of the layout that the recipe wants, IMAGE... two pictures, RUN a run of the page,
IMAGES and NAME what a linearization wants.
"""

import functools
import re
import shlex
import shutil
import tomllib
from pathlib import Path

import pytest
import torch
from PIL import Image

from crosshead.bench.options import AttentionOptions, BackboneOptions
from crosshead.cli import main as command_line
from crosshead.study.cost import measure_costs
from crosshead.vision import Footprint

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)

BENCH = "--repeats 1 --budget 0.1 --threads 1 --device cpu"
STUDY = "--jobs 1 --device cpu"
QUICK = {
    "train": "--check-data",
    "evaluate": "--accelerator cpu",
    "predict": "--accelerator cpu",
    "predict model.onnx": "--help",  # there is no such file: tests/export makes one
    "explain": "--no-sheets --accelerator cpu",
    "export": "--help",  # traces for half a minute: tests/cli/test_export_command.py does
    "resume": "",
    "runs": "",
    "build --help": "",
    "build": "--help",  # compiles for ten seconds and more: tests/attention/impl/fused/test_build.py does
    "bench attention": f"--providers reference exact --tokens 16 --passes forward {BENCH}",
    "bench backbone": f"--models ivit_nano --sizes 32 --passes inference {BENCH}",
    "rivals": "",
    "models": "",
    "info": "",
    "study report": "",
    "study": f"--plan {STUDY}",
}
SLOW = {
    "bench attention": f"--tokens 16 --heads 2 --head-dim 16 --landmarks 4 --passes forward {BENCH}",
    "bench backbone": f"--models ivit_nano --sizes 32 --passes inference {BENCH}",
    "study": f"--samples 320 --select-samples 320 --seeds 1 --learning-rates 1e-3 {STUDY}",
    "study report": "",
}

# Trainings of a second or two; on one device, in whatever way the recipe would share them out.
ALONE = "--epochs 1 --threads 1 --workers 0 --accelerator cpu --devices 1 --strategy auto --precision 32-true"
NET = "--model ivit_nano --model-args depths=[1,1,1,1] dims=[8,16,16,16] head_dim=8"
MAPS = f"{NET} stem_stride=1 attention_stages=[1,2] landmarks=[2,2,2,1] kernel_size=3 --batch-size 4"
CLASSIFY = f"{NET} --batch-size 16 --image-size 32 {ALONE}"
DETECT = f"{MAPS} --pyramid-dim 32 --rois 16 --anchor-sizes 4 8 16 24 32 --min-size 32 {ALONE}"
SEGMENT = f"{MAPS} --crop 32 --decoder-dim 64 {ALONE}"
CHANGE = f"{MAPS} --dim 16 --crop 16 --crops 8 --tile 24 {ALONE}"
TRAIN = {
    "digits": f"{NET} --batch-size 256 {ALONE}",
    "fashion-mnist": f"{NET} --batch-size 16 {ALONE}",
    "cifar10": f"{NET} --batch-size 8 {ALONE}",
    "classify": f"{CLASSIFY} --batch-size 2",
    "imagenet1k": f"{CLASSIFY} --batch-size 256 --no-compile",
    "detect": DETECT,
    "instances": DETECT,
    "bccd": DETECT,
    "nuclei": DETECT,
    "coco": DETECT,
    "segment": SEGMENT,
    "nuclei-semantic": SEGMENT,
    "fashion-scenes": f"{SEGMENT} --scenes 8 4 --scene-size 96",
    "landsat": CHANGE,
    "change": f"{CHANGE} --block 10",
    "linearize": f"--batch-size 4 --crops 8 --attention-epochs 1 --image-size 16 {ALONE}",
    "labels": f"--batch-size 2 --image-size 16 {ALONE}",
}


def commands(page: Path) -> list[str]:
    """The lines of ```sh blocks and the indented ones that begin with a program; continued lines in one."""
    found, language = [], None
    for line in re.sub(r" *\\\n *", " ", page.read_text()).splitlines():
        if line.startswith("```"):
            language = line.removeprefix("```") if language is None else None
        elif (language == "sh" and line.strip()) or (
            language is None and re.match(r"    (crosshead|python|make|pip) ", line)
        ):
            found.append(line.strip())
    return found


def of_crosshead(page: Path) -> list[list[str]]:
    """The arguments of the page's commands of Crosshead."""
    found = [shlex.split(line, comments=True) for line in commands(page)]
    return [words[1:] for words in found if words[0] == "crosshead"]


def further(table: dict[str, str], arguments: list[str]) -> list[str] | None:
    """The flags that a table gives to a command, by the longest beginning of it that is there."""
    named = [name for name in table if arguments[: len(name.split())] == name.split()]
    return table[max(named, key=len)].split() if named else None


@every_page
def test_every_command_is_understood(page, monkeypatch):
    understood = []
    for name, command in command_line.COMMANDS.items():
        noted = functools.wraps(command)(lambda *given, **named: understood.append([*given, *named.values()]))
        monkeypatch.setitem(command_line.COMMANDS, name, noted)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    makefile = (ROOT / "Makefile").read_text()
    for line in commands(page):
        program, *arguments = shlex.split(line, comments=True)
        if program == "crosshead":
            monkeypatch.setattr("sys.argv", [program, *arguments])
            try:
                command_line.main()
            except SystemExit as stop:
                pytest.fail(f"{line}: exit code {stop.code}")
            for request in understood.pop():
                if isinstance(request, AttentionOptions | BackboneOptions):
                    request.resolved()  # knows the names of providers
        elif program == "make":
            assert re.search(rf"^{arguments[0]}:", makefile, flags=re.MULTILINE), line
        elif program == "pip":
            named = re.findall(r"[\w-]+", arguments[1].partition("[")[2])
            assert arguments[0] == "install", line
            assert set(named) <= set(extras), line
        else:
            # These take minutes to hours; what the script says of itself is its command.
            assert program == "python", line
            assert " ".join([program, *arguments]) in (ROOT / arguments[0]).read_text(), line


@every_page
def test_every_command_runs(page, crosshead, data, tmp_path, monkeypatch):
    shown = of_crosshead(page)
    measure_nothing(monkeypatch)
    run_of_page = prepare(page, tmp_path, monkeypatch, data)
    studies = tmp_path / "studies" / "rivals-digits"
    studies.mkdir(parents=True)
    shutil.copy(ROOT / "benchmarks/results/study_primary.csv", studies / "results.csv")
    for place, arguments in enumerate(shown):
        flags = further(QUICK, arguments)
        assert flags is not None, f"{page.name}: crosshead {' '.join(arguments)} is in no table"
        named_later = {run_of_page if word == "RUN" else word for later in shown[place:] for word in later}
        if arguments[0] == "train" and f"runs/{arguments[1]}-1" in named_later:
            flags = TRAIN[arguments[1]].split()
        crosshead([*filled(arguments, data, run_of_page), *flags])


@pytest.mark.slow
@pytest.mark.timeout(1800)
@every_page
def test_every_training_and_measurement_runs(page, crosshead, data, tmp_path, monkeypatch):
    short = functools.partial(measure_costs, repeats=1, budget=0.1)
    monkeypatch.setattr("crosshead.study.cost.measure_costs", short)
    run_of_page = prepare(page, tmp_path, monkeypatch, data)
    for arguments in of_crosshead(page):
        flags = further(SLOW, arguments)
        if arguments[0] == "train":
            flags = TRAIN["labels" if "--from" in arguments else arguments[1]].split()
        if flags is not None:
            crosshead([*filled(arguments, data, run_of_page), *flags])


@pytest.fixture(autouse=True)
def own_threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def measure_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What machine and models can do is of no interest here, and takes seconds to find out."""
    monkeypatch.setattr("crosshead.bench.roofline.GEMM_SIDE", {"cpu": 64})
    monkeypatch.setattr("crosshead.bench.roofline.COPY_BYTES", {"cpu": 2**16})
    monkeypatch.setattr("crosshead.study.execution._seconds_per_sample", lambda candidate, place: 1e-3)
    for module in ("attention", "backbone"):
        monkeypatch.setattr(f"crosshead.bench.{module}.supported", lambda device: False)
    for place in ("crosshead.vision.footprint", "crosshead.bench.backbone.footprint"):
        monkeypatch.setattr(place, lambda name, **options: Footprint(1, 1, 1))


def prepare(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, data: dict[str, Path]) -> str:
    """Makes a folder in which the commands of a page find what they name; answers what RUN is there."""
    monkeypatch.chdir(folder)
    for number in (1, 2):
        Image.effect_noise((40, 32), 90).convert("RGB").save(f"image-{number}.png")
    for path in data["landsat"].glob("t?_*.png"):
        shutil.copy(path, folder)
    return {"dense.md": "runs/landsat-1", "inside.md": "swapped_vit.fashion_mnist"}.get(
        page.name, "runs/digits-1"
    )


def filled(arguments: list[str], data: dict[str, Path], run_of_page: str) -> list[str]:
    """The arguments with something in the place of DIR, IMAGE... and RUN."""
    folder = data.get(arguments[1]) if arguments[0] == "train" else data["fashion-mnist"]
    images, teacher = str(data["linearize"]), str(data["teacher"])
    meant: dict[str, list[str]] = {
        "DIR": [str(folder)],
        "DIR_OR_ARCHIVE": [str(folder)],
        "IMAGE": ["image-1.png"],
        "IMAGE...": ["image-1.png", "image-2.png"],
        "RUN": [run_of_page],
        "IMAGES": [images],
        "NAME": [teacher],
    }
    return [word for argument in arguments for word in meant.get(argument, [argument])]

"""What README.md and docs/ say of the code is what the code says of itself."""

import csv
import importlib.util
import re
import sys
import tomllib
from contextlib import redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from crosshead import InteractiveAttention
from crosshead.attention.functional import STREAMED_FROM
from crosshead.cli.main import COMMANDS, main
from crosshead.recipes import RECIPES
from crosshead.rivals import MECHANISMS
from crosshead.study.conjunctions import ATTRIBUTES, ITEMS, NEAR_MISSES, PAYLOADS, VALUES
from crosshead.study.options import (
    ABLATION_GROUPS,
    BUDGETS,
    ConjunctionsOptions,
    HeadsOptions,
    PrimaryOptions,
)
from crosshead.study.sources import HELD_OUT_LOOK_UPS, TRAIN_LOOK_UPS
from crosshead.study.statistics import summaries
from crosshead.study.training import STRETCHES
from crosshead.vision.variants import VARIANTS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def text_of(name: str) -> str:
    return (ROOT / name).read_text()


def table(name: str, first: str) -> list[list[str]]:
    """The cells of the rows below the table head that begins with `first`."""
    _, _, below = text_of(name).partition(f"\n| {first}")
    assert below, f"{name} has no table that begins with {first}"
    rows = below.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def outside_code(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


@every_page
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", outside_code(page)):
        if target.startswith("http"):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", path.read_text(), flags=re.MULTILINE)
            anchors = [re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings]
            assert anchor in anchors, target


@every_page
def test_files_that_are_named_exist(page):
    for name in re.findall(r"`(?:python )?([\w/.-]+\.(?:csv|png|jpg|py|md|h|cpp))`", outside_code(page)):
        if "/" in name:
            assert any((ROOT / folder / name).exists() for folder in (".", "docs", "src/crosshead")), name
        elif name.endswith(".csv") and "_" in name:
            assert (ROOT / "benchmarks/results" / name).exists(), name


@pytest.fixture(scope="module")
def flags() -> dict[str, set[str]]:
    """All flags of each command, its variants together."""
    variants: dict[str, Any] = {"train": RECIPES, "bench": ("attention", "backbone")}
    variants["study"] = ("primary", "rivals", "ablation", "heads", "conjunctions", "report")
    before, found = sys.argv, {}
    for command in COMMANDS:
        shown = StringIO()
        for variant in variants.get(command, [""]):
            sys.argv = ["crosshead", command, *([variant] if variant else []), "--help"]
            with redirect_stdout(shown), suppress(SystemExit):
                main()
        found[command] = set(re.findall(r"--[a-z][a-z-]*", shown.getvalue())) | {"--debug"}
    sys.argv = before
    return found


@every_page
def test_commands_and_flags_in_the_text_exist(page, flags):
    anywhere = set().union(*flags.values())
    for code in re.findall(r"`([^`\n]*)`", outside_code(page)):
        command = re.match(r"crosshead ([a-z]+)", code)
        assert command is None or command[1] in COMMANDS, code
        known = flags[command[1]] if command else anywhere
        if script := re.match(r"python (\S+\.py)", code):
            known = set(re.findall(r"--[a-z][a-z-]*", text_of(script[1])))
        assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", code)) <= known, code


def test_extras_that_are_named_can_be_installed():
    texts = [path.read_text() for path in (*PAGES, *(ROOT / "src").rglob("*.py"))]
    named = {extra for text in texts for extra in re.findall(r"crosshead\[([\w,]+)\]", text)}
    extras = tomllib.loads(text_of("pyproject.toml"))["project"]["optional-dependencies"]
    assert {name for extra in named for name in extra.split(",")} <= set(extras)


def test_a_run_folder_holds_what_the_guide_lists(digits_run):
    _, _, below = text_of("docs/guide.md").partition("A run folder holds\n\n```\n")
    listed = {line.split()[0].rstrip("/") for line in below.partition("```")[0].splitlines()}
    assert listed == {path.name for path in digits_run.iterdir()}
    for name in re.findall(r"(\w+\.(?:ckpt|json|safetensors))", below.partition("```")[0]):
        assert list(digits_run.rglob(name)), name


def test_environment_variables_are_those_of_the_table():
    pattern = r"environ(?:\.get\(|\[)\s*\"(\w+)\""
    used = {name for path in (ROOT / "src").rglob("*.py") for name in re.findall(pattern, path.read_text())}
    listed = [row[0].strip("`") for row in table("docs/guide.md", "variable")]
    # Tests alone read the last one.
    assert set(listed) == used | {"CROSSHEAD_TEST_DATA"}


def measured(name: str) -> list[dict[str, str]]:
    lines = text_of(f"benchmarks/results/{name}").splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def test_times_of_the_operator_are_those_of_the_csv():
    rows = {(row["tokens"], row["passes"], row["provider"]): row for row in measured("attention.csv")}
    shown = table("docs/results.md", "tokens | pass | fused")
    assert len(shown) == 10
    providers = ("fused", "landmarks-only", "reference", "streamed", "compiled", "exact")
    for tokens, passes, *cells in shown:
        found = [rows[tokens.replace(",", ""), passes, provider] for provider in providers]
        for cell, row in zip(cells[:6], found, strict=True):
            if cell == "–":
                assert not row["median_s"]
            else:
                assert float(cell.replace(",", "")) == pytest.approx(1e3 * float(row["median_s"]), rel=6e-3)
        assert cells[6] == f"{float(found[0]['percent_of_limit_needed']):.0f}"
        assert cells[7] == f"{int(found[0]['beyond_bytes']) / 2**20:.1f}"


def test_accuracies_of_the_rivals_are_those_of_the_csv():
    lines = summaries(measured("study_rivals.csv"))
    prices = {row["attention"]: row for row in measured("study_rivals_prices.csv")}
    full = table("docs/results.md", "mechanism | test accuracy, % ± standard error")
    for line, row in zip(lines, full, strict=True):
        accuracy, error = 100 * line.accuracy, 100 * line.standard_error
        training = f"{float(prices[line.attention]['train_ms']):.2f}"
        assert row[0].strip("*") == line.attention
        assert (row[1], row[3]) == (f"{accuracy:.2f} ± {error:.2f}", f"{line.parameters:,}")
        assert row[6] == training


@pytest.mark.parametrize("name", ["README.md", "docs/choose.md"])
def test_when_it_pays_is_what_was_measured(name):
    text = text_of(name)
    layers = {
        (row["provider"], row["tokens"]): float(row["median_s"])
        for row in measured("attention_rivals.csv")
        if row["level"] == "layer" and row["median_s"]
    }
    shares = [
        layers["interactive-layer", tokens] / layers["softmax-layer", tokens] for tokens in ("1024", "4096")
    ]
    assert f"{shares[0]:.2f} of softmax attention's time at 1,024 tokens"[1:] in text
    assert f"{shares[1]:.2f} at 4,096"[1:] in text
    speed = {
        (row["model"], row["size"]): float(row["images_per_second"])
        for row in measured("backbone_speed.csv")
        if row["passes"] == "inference" and row["images_per_second"]
    }
    swin = speed["ivit_small", "1024"] / speed["swin_tiny_patch4_window7_224", "1024"]
    assert f"{swin:.1f} times" in text
    for row in measured("linearize_time.csv"):
        if row["run"] == "vit-s-focus" and row["size"] in ("518", "1036"):
            assert f"{float(row['ratio_to_teacher']):.2f}"[1:] in text


def test_rivals_are_as_many_as_the_readme_says():
    assert len(MECHANISMS) == 19
    assert text_of("README.md").count("nineteen") == 1


def test_the_guide_says_where_auto_streams():
    assert STREAMED_FROM == 2**24
    assert "= 16.8 million (2^24)" in text_of("docs/guide.md")


def test_the_backbone_table_is_the_measured_one():
    spec = importlib.util.spec_from_file_location("backbone_table", ROOT / "benchmarks/backbone_table.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    head, *rows = (line.split(",") for line in script.RESULTS.read_text().splitlines())
    fields = [head.index(field) for field in script.Footprint._fields]
    costs = {row[0]: script.Footprint(*(int(row[place]) for place in fields)) for row in rows}
    assert costs.keys() == {*VARIANTS, *script.NEIGHBOURS}
    shown = text_of("docs/backbone.md").partition(script.BEGIN)[2].partition(script.END)[0]
    assert shown == script.table(costs)


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    with torch.device("meta"):
        return {name: timm.create_model(name) for name in VARIANTS}


def attentions(model: Any) -> list[tuple[int, InteractiveAttention]]:
    """The reduction and the attention of each stage that attends."""
    found = []
    for stage, info in zip(model.stages, model.feature_info, strict=True):
        layers = [layer for layer in stage.modules() if isinstance(layer, InteractiveAttention)]
        found += [(info["reduction"], layer) for layer in layers[:1]]
    return found


def test_the_sizes_of_the_backbones_are_those_of_the_table(models):
    rows = {row[0]: row[1:] for row in table("docs/backbone.md", "model | blocks per stage")}
    assert rows.keys() == models.keys()
    for name, (blocks, channels, heads) in rows.items():
        stages = models[name].stages
        assert blocks == ", ".join(str(len(stage.blocks)) for stage in stages), name
        assert channels == ", ".join(str(info["num_chs"]) for info in models[name].feature_info), name
        assert heads == ", ".join(str(layer.num_heads) for _, layer in attentions(models[name])), name


def test_landmarks_are_those_of_the_table_and_no_more_than_pay(models):
    for place, row in enumerate(table("docs/backbone.md", "at 224 pixels")):
        layers = [attentions(model)[place] for model in models.values()]
        axis, cells = 224 // layers[0][0], layers[0][1].landmarks
        cells = cells if isinstance(cells, int) else cells[0]
        limits = [axis**2 * x.head_dim // (2 * (x.head_dim + x.num_heads)) for _, x in layers]
        assert row[1:] == [
            f"{axis} x {axis}",
            str(layers[0][1].head_dim),
            ", ".join(str(layer.num_heads) for _, layer in layers),
            ", ".join(map(str, limits)),
            f"{cells} x {cells} = {cells**2}",
        ]
        assert cells**2 <= min(limits)


def test_only_small_grey_images_have_pretrained_weights():
    assert timm.list_pretrained("ivit_*") == ["ivit_pico.fashion_mnist"]
    with pytest.raises(RuntimeError, match=r"[Nn]o pretrained weights"):
        timm.create_model("ivit_nano", pretrained=True)


def test_the_primary_test_is_what_the_page_says():
    options, budget = PrimaryOptions(), BUDGETS["fashion-mnist"]
    said = {row[0]: row[1] for row in table("docs/study.md", "what | fixed to")}
    shape, side = budget.shape, budget.shape.image_size // budget.shape.patch_size
    assert said["model"].startswith(
        f"isotropic ViT, {shape.image_size} x {shape.image_size} pixels in patches of {shape.patch_size} "
        f"({side**2} tokens), {shape.dim} channels, {shape.depth} blocks, H = {shape.heads} heads, MLP ratio "
        f"{shape.mlp_ratio}, {shape.landmarks} x {shape.landmarks} landmarks"
    )
    steps = STRETCHES * (budget.samples // STRETCHES // options.batch_size)
    assert said["training"].startswith(
        f"{budget.samples:,} samples in batches of {options.batch_size} ({steps:,} steps), AdamW, "
        f"weight decay {options.weight_decay}"
    )
    rates = ", ".join(map(str, options.learning_rates))
    assert said["learning rate"].startswith(f"for each arm the best of {rates} on ")
    assert f"trained on {budget.select_samples:,} samples" in said["learning rate"]
    assert said["seeds"].startswith(f"0 to {options.seeds - 1};")


def test_the_page_on_studies_lists_all_groups():
    assert [row[0] for row in table("docs/study.md", "group | what is trained")] == list(ABLATION_GROUPS)


def test_the_conjunctions_are_what_the_page_says():
    options, budget = ConjunctionsOptions(), BUDGETS["one-look-up"]
    page = text_of("docs/study.md").split("### Conjunctions")[1]
    said = dict(
        re.findall(r"^\| (.+?) \| (.+) \|$", page.split("crosshead study conjunctions")[0], re.MULTILINE)
    )
    assert said["arms"].startswith(", ".join(map(str, options.head_counts)) + " heads x `mixing` none, ")
    assert f"C = {budget.shape.dim}, MLP ratio {budget.shape.mlp_ratio}" in said["model"]
    assert f"the items have {budget.shape.landmarks} landmarks" in said["model"]
    assert said["training"].startswith(
        f"{budget.samples:,} samples (no sample twice) in batches of {options.batch_size}: "
        f"{budget.samples // options.batch_size:,} steps"
    )
    assert budget.samples <= TRAIN_LOOK_UPS
    assert (
        f"of {', '.join(map(str, options.learning_rates))} on {HELD_OUT_LOOK_UPS:,}" in said["learning rate"]
    )
    assert f"{budget.select_samples:,} samples, seeds 1000 and 1001" in said["learning rate"]
    assert said["seeds"].startswith(f"0 to {options.seeds - 1},")
    text = " ".join(page.split())
    numbers = {4: "four", 8: "eight", 12: "Twelve"}
    assert f"{ITEMS} items with {numbers[ATTRIBUTES]} attributes of {numbers[VALUES]} values" in text
    assert f"a payload out of {PAYLOADS}" in text
    assert f"{numbers[NEAR_MISSES]} items are near misses" in text


def test_the_slope_in_heads_is_what_the_page_says():
    options = HeadsOptions()
    page = text_of("docs/study.md").split("### The slope in heads")[1]
    assert f"with {', '.join(map(str, options.head_counts))} heads" in page
    assert "the rate, {} or {}".format(*options.learning_rates) in page
    assert f"{BUDGETS['fashion-mnist'].select_samples:,} samples, seeds 1000 and 1001" in page
    assert f"| seeds | 0 to {options.seeds - 1}, paired |" in page

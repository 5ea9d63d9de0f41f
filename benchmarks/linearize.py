"""How well linearized ViTs agree with their teachers, and what they cost.

    python benchmarks/linearize.py agreement RUN... --photos DIR [--decoder FILE] [--positions FILE]
    python benchmarks/linearize.py labels RUN... --data-dir DIR      labelled folders train/ and test/
    python benchmarks/linearize.py time RUN...                       nothing else running
    python benchmarks/linearize.py draw RUN --photo FILE             after the others

RUN is a folder that `crosshead train linearize` made; its teacher must still be where it was. Writes
linearize_agreement.csv, linearize_labels.csv and linearize_time.csv below benchmarks/results, where rows of
other runs stay; and linearize.png and linearize_kept.png, which are drawn from them.
"""

import csv
import io
import shutil
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import tyro
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from crosshead.measure.stamp import stamp_words
from crosshead.measure.timing import compare
from crosshead.runs.evaluate import evaluate
from crosshead.runs.folder import RunFolder, write_atomically
from crosshead.runs.load import load_run
from crosshead.runs.record import RunRecord, read_record
from crosshead.runs.rows import read_metrics
from crosshead.tasks.classify.transforms import eval_transform
from crosshead.tasks.images import read_image
from crosshead.tasks.linearize.agreement import agreement
from crosshead.tasks.linearize.predict import token_row, tokens_of
from crosshead.tasks.linearize.teacher import build_student, find_teacher

RESULTS = Path(__file__).parent / "results"
SIZES = (224, 518, 1036)
TIME_SIZES = (224, 336, 448, 518, 686, 784, 1036)
BUDGET, REPEATS = 15.0, 9
CONSOLE = Console(highlight=False)


class SaliencyDecoder(nn.Module):
    """What vit-s-focus puts on its patch tokens, (B, C, h, w) to a map: three stages that upsample."""

    def __init__(self, weights: Path) -> None:
        super().__init__()
        widths = (384, 256, 128, 64)
        for place, (given, made) in enumerate(pairwise(widths), 1):
            self.add_module(f"upconv{place}", nn.ConvTranspose2d(given, made, 4, stride=2, padding=1))
            self.add_module(f"bn{place}", nn.BatchNorm2d(made))
        self.final_conv = nn.Conv2d(widths[-1], 1, 1)
        self.load_state_dict(
            {name: value.float() for name, value in load_file(weights).items()}, strict=False
        )
        self.eval()

    def forward(self, tokens: Tensor) -> Tensor:
        """Patch tokens on their grid to saliency between 0 and 1, eight times as fine."""
        for place in (1, 2, 3):
            tokens = self.get_submodule(f"bn{place}")(self.get_submodule(f"upconv{place}")(tokens)).relu()
        return self.final_conv(tokens).sigmoid()


def described(run: Path) -> dict[str, Any]:
    """What tells one run from another."""
    record = read_record(RunFolder(run))
    recipe: Any = record.recipe
    rows = read_metrics(RunFolder(run))
    return {
        "run": run.name,
        "mixing": recipe.mixing,
        "landmarks": "x".join(map(str, recipe.landmarks)),
        "local_kernel": recipe.local_kernel,
        "kept_layers": len(recipe.keep),
        "attention_epochs": recipe.attention_epochs,
        "blockwise": recipe.blockwise,
        "epochs": recipe.epochs,
        "crop_scale": " ".join(map(str, recipe.crop_scale)),
        "crops_seen": int(rows[-1]["step"]) * recipe.batch_size,
        "seed": recipe.seed,
    }


def nets_of(run: Path) -> tuple[RunRecord, dict[str, Any]]:
    """The record, and the three nets that are compared, in evaluation mode."""
    record, linearized = load_run(RunFolder(run))
    recipe: Any = record.recipe
    teacher = find_teacher(recipe)
    swapped = build_student(recipe, teacher.build(pretrained=True)).eval()
    return record, {"teacher": teacher.build(pretrained=True), "swapped": swapped, "linearized": linearized}


def write(name: str, rows: list[dict[str, Any]]) -> None:
    """Adds rows to a table, in place of those of the same run."""
    path = RESULTS / f"{name}.csv"
    stamped = [{**row, **stamp_words("; ")} for row in rows]
    names = {row["run"] for row in rows}
    kept = [row for row in csv.DictReader(path.open()) if row["run"] not in names] if path.exists() else []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "table.csv"
        with file.open("w", newline="") as opened:
            writer = csv.DictWriter(opened, list(stamped[0]), lineterminator="\n", restval="")
            writer.writeheader()
            writer.writerows([*kept, *stamped])
        write_atomically(path, file.read_bytes())
    CONSOLE.print(f"{path}: {len(rows)} rows")


def agreement_rows(
    run: Path, photos: Path, decoder: SaliencyDecoder | None, positions: Path | None
) -> Iterator[dict[str, Any]]:
    """Of each size, photo and net."""
    record, nets = nets_of(run)
    meta: Any = record.meta
    for size in SIZES:
        if positions is not None and size == 518:
            nets = {name: with_positions(net, load_file(positions)) for name, net in nets.items()}
        transform = eval_transform(image_size=size, mean=meta.mean, std=meta.std)
        for path in sorted(path for path in photos.iterdir() if path.is_file()):
            pixels = transform(read_image(path))[None]
            tokens = {name: patch_tokens(net, pixels) for name, net in nets.items()}
            grid = [side // patch for side, patch in zip(pixels.shape[-2:], meta.patch, strict=True)]
            maps = (
                {}
                if decoder is None
                else {name: saliency(decoder, each, grid) for name, each in tokens.items()}
            )
            for name in ("swapped", "linearized"):
                agreed = agreement(tokens[name], tokens["teacher"])
                row = {
                    **described(run),
                    "size": size,
                    "photo": path.stem,
                    "net": name,
                    "cosine": round(float(agreed.cosine), 4),
                    "centered_cosine": round(float(agreed.centered), 4),
                    "saliency_correlation": round(correlation(maps[name], maps["teacher"]), 4)
                    if maps
                    else "",
                }
                CONSOLE.print(f"{run.name} {size:5} {path.stem:10} {name:11}", *list(row.values())[-3:])
                yield row


def with_positions(net: VisionTransformer, table: dict[str, Tensor]) -> VisionTransformer:
    """A net with the position table of another grid, whose parameter has another shape."""
    (positions,) = table.values()
    net.pos_embed = nn.Parameter(positions.float(), requires_grad=False)
    side = round((positions.shape[1] - net.num_prefix_tokens) ** 0.5)
    net.patch_embed.grid_size = (side, side)
    return net


@torch.inference_mode()
def patch_tokens(net: VisionTransformer, pixels: Tensor) -> Tensor:
    """Normalised tokens of the patches."""
    return net.forward_features(pixels)[:, net.num_prefix_tokens :]


@torch.inference_mode()
def saliency(decoder: SaliencyDecoder, tokens: Tensor, grid: list[int]) -> Tensor:
    """The map that a decoder sees in tokens."""
    return decoder(tokens.mT.unflatten(2, grid))


def correlation(one: Tensor, other: Tensor) -> float:
    """Pearson's, over the pixels of two maps."""
    return float(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1])


def measure_agreement(
    runs: tyro.conf.Positional[tuple[Path, ...]],
    *,
    photos: Path,
    decoder: Path | None = None,
    positions: Path | None = None,
) -> None:
    """Cosines with the teacher's patch tokens on photographs at 224, 518 and 1,036 pixels.

    Args:
        runs: folders of linearized ViTs.
        photos: a folder of images, none of which was trained on.
        decoder: weights of a saliency decoder on the teacher's tokens, whose maps are compared as well.
        positions: a table of positions for 518 pixels; by default the teacher's own is resized.
    """
    judge = None if decoder is None else SaliencyDecoder(decoder)
    for run in runs:
        write("linearize_agreement", list(agreement_rows(run, photos, judge, positions)))


def measure_labels(runs: tyro.conf.Positional[tuple[Path, ...]], *, data_dir: Path) -> None:
    """Nearest neighbours and a linear probe on labelled images, for teacher, swapped and linearized net.

    Args:
        runs: folders of linearized ViTs.
        data_dir: a folder with train/ and test/, in each a folder for each class, or a published set where
            the run learned from that.
    """
    for run in runs:
        with tempfile.TemporaryDirectory() as copy:
            # An evaluation writes into the run that it is given.
            shutil.copytree(run, copy, dirs_exist_ok=True)
            found: Any = evaluate(RunFolder(Path(copy)), data_dir=data_dir)[0]
        rows = [
            {
                **described(run),
                "images": found.images,
                "net": net,
                **{k: round(v, 4) for k, v in each.items()},
            }
            for net, each in found.labels.items()
        ]
        write("linearize_labels", rows)


def measure_time(runs: tyro.conf.Positional[tuple[Path, ...]]) -> None:
    """Seconds of a forward pass over one image, the teacher and all runs taking turns.

    Args:
        runs: folders of linearized ViTs of one teacher.
    """
    found = {run: nets_of(run)[1] for run in runs}
    nets = {"teacher": found[runs[0]]["teacher"]} | {
        run.name: each["linearized"] for run, each in found.items()
    }
    rows: list[dict[str, Any]] = []
    for size in TIME_SIZES:
        image = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
        calls = {name: (lambda net=net, image=image: patch_tokens(net, image)) for name, net in nets.items()}
        times = compare(calls, budget=BUDGET, repeats=REPEATS, device="cpu")
        for name, measured in times.items():
            rows.append(
                {
                    "run": name,
                    "size": size,
                    "threads": torch.get_num_threads(),
                    **measured,
                    "ratio_to_teacher": round(measured["median_s"] / times["teacher"]["median_s"], 3),
                }
            )
            CONSOLE.print(
                f"{size:5} {name:16}{1e3 * measured['median_s']:10.1f} ms {rows[-1]['ratio_to_teacher']:6.2f}"
            )
    write("linearize_time", rows)


def draw(run: tyro.conf.Positional[Path], *, photo: Path, size: int = 518) -> None:
    """Draws what a linearized ViT sees, what it costs, and what keeping layers exact gives.

    Args:
        run: the folder of a linearized ViT.
        photo: an image that it was not trained on, and that may be published.
        size: its shorter side, in pixels.
    """
    record, nets = nets_of(run)
    meta: Any = record.meta
    image = read_image(photo)
    cells = token_row(photo.stem, image, tokens_of(nets, meta, image, size=size))
    times = rows_of("linearize_time")
    figure = Figure(figsize=(13, 2.6), dpi=120, layout="constrained")
    places = figure.subplots(1, 5, width_ratios=[1, 1, 1, 1, 1.25])
    titles = {photo.stem: "photograph", "teacher": "teacher's tokens", "swapped": "attention swapped"}
    for axes, (name, picture) in zip(places, cells, strict=False):
        axes.imshow(picture)
        axes.set_title(titles.get(name, "after linearizing"), fontsize=10)
        axes.axis("off")
    for name, label, color in (("teacher", "softmax", "#cc6677"), (run.name, "linearized", "#4477aa")):
        found = [row for row in times if row["run"] == name]
        pixels, seconds = ([float(row[key]) for row in found] for key in ("size", "median_s"))
        places[4].plot(pixels, seconds, color=color, marker="o", markersize=3)
        places[4].annotate(
            label, (pixels[-1], seconds[-1]), (-4, 0), textcoords="offset points", ha="right", color=color
        )
    places[4].set(xlabel="side of the image, pixels")
    places[4].set_title("seconds an image", fontsize=10)
    places[4].spines[["top", "right"]].set_visible(False)
    save(figure, "linearize.png")

    agreed = [row for row in rows_of("linearize_agreement") if row["net"] == "linearized"]
    figure = Figure(figsize=(6, 4), dpi=120, layout="constrained")
    axes = figure.subplots()
    largest = max(TIME_SIZES)
    points = []
    for name in dict.fromkeys(row["run"] for row in agreed if row["mixing"] != "none"):
        ratio = [row for row in times if row["run"] == name and int(row["size"]) == largest]
        cosines = [
            float(row["centered_cosine"]) for row in agreed if row["run"] == name and row["size"] == "518"
        ]
        if ratio and cosines:
            kept = next(int(row["kept_layers"]) for row in agreed if row["run"] == name)
            points.append((float(ratio[0]["ratio_to_teacher"]), fmean(cosines), kept))
    if len(points) < 2:
        CONSOLE.print("no picture of kept layers: it takes runs with and without, timed and compared")
        return
    points.append((1.0, 1.0, len(nets["teacher"].blocks)))
    points.sort()
    axes.plot([x for x, _, _ in points], [y for _, y, _ in points], color="#4477aa", marker="o")
    for x, y, kept in points:
        axes.annotate(f"{kept} kept", (x, y), (6, -10), textcoords="offset points", fontsize=9)
    axes.set(
        xlabel=f"time at {largest:,} pixels, of the teacher's",
        ylabel="cosine, mean off, at 518 pixels",
        title="Layers that keep softmax attention",
    )
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, "linearize_kept.png")


def rows_of(name: str) -> list[dict[str, str]]:
    """The rows of a table."""
    with (RESULTS / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def save(figure: Figure, name: str) -> None:
    """Writes a picture."""
    content = io.BytesIO()
    FigureCanvasAgg(figure).print_png(content)
    write_atomically(RESULTS / name, content.getvalue())
    CONSOLE.print(RESULTS / name)


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict(
        {"agreement": measure_agreement, "labels": measure_labels, "time": measure_time, "draw": draw}
    )

"""Does interaction do anything in a trained classifier? Parts of it are knocked out, on the whole test set.

    python benchmarks/knock_out.py RUN [--data-dir DIR]     a quarter of an hour on one core

RUN is a run folder of a classifier with interactive attention, DIR its data, by default where it found them.
Published from an iViT, whose blocks convolve too, and from a ViT whose tokens meet in its attention alone:

    crosshead train fashion-mnist --data-dir DIR --model-args "head_dim=(16,2,4,16)"
    crosshead train fashion-mnist --data-dir DIR --epochs 6 --lr 2e-3 --swap-landmarks 4 4
        --model vit_tiny_patch16_224
        --model-args img_size=28 patch_size=4 embed_dim=64 depth=4 num_heads=16 mlp_ratio=2

Every row is the same net on the same images with something taken away; differences are paired by image, and
`lost` and `gained` count the images that became wrong or right. Knocked out are the entries of mixing, by
`crosshead.explain.knock_out`; and for comparison attention itself: what layers give becomes zero, or its mean
over tokens; and the order of heads: mixing takes from the wrong ones, or the last projection does.

Writes benchmarks/results/knock_out.csv.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import tyro
from examined import model_of, save, test_images, title_of, told
from torch import Tensor, nn
from torch.nn import functional as F

from crosshead import InteractiveAttention
from crosshead.explain import attention_layers, knock_out, mixing_matrices
from crosshead.study.statistics import mean_and_error

SEEDS, LARGEST, SHARE = (0, 1, 2), 3, 0.1
BATCH = 250


@dataclass(frozen=True)
class Lesion:
    """What is taken away.

    Attributes:
        what: in words.
        layers: which, in words.
        held: while it is away.
        seed: of what is drawn, or None.
    """

    what: str
    layers: str
    held: Any
    seed: int | None = None


def main(run: Path, /, *, data_dir: Path | None = None, images: int | None = None) -> None:
    """Measures and writes.

    Args:
        run: a run folder.
        data_dir: where the data are now.
        images: how many test images; all by default.
    """
    trained = model_of(run, data_dir)
    pixels, labels = test_images(trained, images)
    whole = measured(trained.net, pixels, labels)
    columns = {"model": title_of(trained), "dataset": trained.recipe.data, "images": len(labels)}
    rows = []
    for lesion in lesions(trained.net):
        with lesion.held():
            found = measured(trained.net, pixels, labels)
        row = {"knocked_out": lesion.what, "layers": lesion.layers, "seed": lesion.seed}
        rows.append(told(row | compared(whole, found)) | columns)
        save("knock_out", rows, command="python benchmarks/knock_out.py RUN")


@torch.inference_mode()
def measured(net: nn.Module, pixels: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The classes that a net finds, and its losses."""
    logits = torch.cat([net(part) for part in pixels.split(BATCH)])
    return logits.argmax(1) == labels, F.cross_entropy(logits, labels, reduction="none")


def compared(before: tuple[Tensor, Tensor], after: tuple[Tensor, Tensor]) -> dict[str, float]:
    """Accuracy and loss after, and their changes with standard errors, paired by image."""
    (right, loss), (still_right, other_loss) = before, after
    change, error = mean_and_error((still_right.double() - right.double()).tolist())
    loss_change, loss_error = mean_and_error((other_loss - loss).double().tolist())
    return {
        "accuracy": round(float(still_right.double().mean()), 4),
        "change": round(change, 4),
        "change_standard_error": round(error, 5),
        "lost": int((right & ~still_right).sum()),
        "gained": int((~right & still_right).sum()),
        "loss": round(float(other_loss.mean()), 4),
        "loss_change": round(loss_change, 5),
        "loss_change_standard_error": round(loss_error, 5),
    }


def lesions(net: nn.Module) -> Iterator[Lesion]:
    """All that is taken away, one after the other."""
    layers = attention_layers(net)
    out = partial(partial, knock_out, net)
    yield Lesion("nothing", "", nullcontext)
    yield Lesion("mixing: other heads", "all", out())
    yield Lesion("mixing: other heads, for as much of a head's own", "all", partial(own_instead, net))
    yield Lesion("mixing: own share too", "all", out(pairs="all"))
    for mixing in ("logits", "weights"):
        yield Lesion(f"mixing: other heads, {mixing} only", "all", out(mixing=mixing))
    for factor in ("query", "key"):
        yield Lesion(f"mixing: other heads, {factor} factor only", "all", out(factor=factor))
    for name in layers:
        yield Lesion("mixing: other heads", name, out(name))
    entries = entries_of(net)
    for entry in entries[:LARGEST]:
        place = f"{entry.matrix.replace('_', ' ')}, {entry.value:+.2f}"
        words = f"mixing: head {entry.g} from head {entry.h}, {place}"
        yield Lesion(words, entry.layer, partial(without, net, [entry]))
    count = round(SHARE * len(entries))
    yield Lesion(f"mixing: the largest tenth, {count} entries", "all", partial(without, net, entries[:count]))
    for seed in SEEDS:
        order = torch.randperm(len(entries), generator=torch.Generator().manual_seed(seed))[:count]
        some = [entries[number] for number in order.tolist()]
        yield Lesion(f"mixing: a random tenth, {count} entries", "all", partial(without, net, some), seed)
    for seed in SEEDS:
        yield Lesion(
            "mixing: the same entries between the wrong heads", "all", partial(wrong, net, seed), seed
        )
    for seed in SEEDS:
        yield Lesion("heads: outputs exchanged", "all", partial(exchanged, net, seed), seed)
    for where, chosen in [("all", [*layers.values()]), *((name, [layer]) for name, layer in layers.items())]:
        yield Lesion("attention: zero", where, partial(instead, chosen, torch.zeros_like))
    yield Lesion(
        "attention: its mean over tokens", "all", partial(instead, [*layers.values()], mean_over_tokens)
    )


@dataclass(frozen=True)
class Entry:
    """`R[g, h]` of a matrix."""

    layer: str
    matrix: str
    g: int
    h: int
    value: float


def entries_of(net: nn.Module) -> list[Entry]:
    """All entries off the diagonal, the largest first."""
    found = [
        Entry(name, matrix, g, h, float(values[g, h]))
        for name, layer in attention_layers(net).items()
        for matrix, values in mixing_matrices(layer)._asdict().items()
        if values is not None
        for g, h in values.nonzero().tolist()
        if g != h
    ]
    return sorted(found, key=lambda entry: -abs(entry.value))


@contextmanager
def without(net: nn.Module, entries: list[Entry]) -> Iterator[None]:
    """Single entries of single matrices knocked out."""
    places: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for entry in entries:
        places.setdefault((entry.layer, entry.matrix), []).append((entry.g, entry.h))
    with ExitStack() as stack:
        for (layer, matrix), pairs in places.items():
            factor, _, mixing = matrix.partition("_")
            options: dict[str, Any] = {"factor": factor, "mixing": mixing}
            stack.enter_context(knock_out(net, layer, pairs=pairs, **options))
        yield


@contextmanager
def changed(weights: dict[nn.Parameter, Tensor]) -> Iterator[None]:
    """Other numbers in the place of weights."""
    before = {weight: weight.detach().clone() for weight in weights}
    try:
        for weight, value in weights.items():
            weight.data.copy_(value)
        yield
    finally:
        for weight, value in before.items():
            weight.data.copy_(value)


def own_instead(net: nn.Module) -> AbstractContextManager[None]:
    """Each head takes of itself what it took of all: the sums of rows stay, and so does the size of maps."""
    return changed(
        {
            matrix: torch.diag_embed(matrix.detach().sum(-1))
            for layer in attention_layers(net).values()
            for mixer in (layer.query_mixing, layer.key_mixing)
            for matrix in mixer.parameters()
        }
    )


def wrong(net: nn.Module, seed: int) -> AbstractContextManager[None]:
    """Each matrix with its entries off the diagonal in random order."""
    generator = torch.Generator().manual_seed(seed)

    def dealt(matrix: Tensor) -> Tensor:
        matrix = matrix.detach().clone()
        off = ~torch.eye(matrix.shape[-1]).bool().expand_as(matrix)
        values = matrix[off]
        matrix[off] = values[torch.randperm(len(values), generator=generator)]
        return matrix

    mixers = [
        mixer for layer in attention_layers(net).values() for mixer in (layer.query_mixing, layer.key_mixing)
    ]
    return changed({matrix: dealt(matrix) for mixer in mixers for matrix in mixer.parameters()})


def exchanged(net: nn.Module, seed: int) -> AbstractContextManager[None]:
    """The last projection of each layer takes each head for another one."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for layer in attention_layers(net).values():
        order = torch.randperm(layer.num_heads, generator=generator)
        by_head = layer.proj.weight.detach().unflatten(1, (layer.num_heads, -1))
        found[layer.proj.weight] = by_head[:, order].flatten(1)
    return changed(found)


def mean_over_tokens(output: Tensor) -> Tensor:
    """`(B, N, C)`, the same for all tokens."""
    return output.mean(1, keepdim=True).expand_as(output)


@contextmanager
def instead(layers: list[InteractiveAttention], given: Any) -> Iterator[None]:
    """Something else in place of what layers give."""
    hooks = [layer.register_forward_hook(lambda _layer, _inputs, output: given(output)) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


if __name__ == "__main__":
    torch.set_num_threads(1)
    tyro.cli(main)

"""Random calls of the operator: whatever it is given, each implementation that is ready is inside the budget.

As many calls as one likes, and one of them alone:

    pytest tests/attention/test_fuzz.py --fuzz-calls 10000
    pytest tests/attention/test_fuzz.py --fuzz-calls 1 --fuzz-seed 1234

Legend: `B` batch, `H` heads, `N` query tokens, `M` key tokens, `L` landmarks.
"""

import random
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from crosshead import interactive_attention
from crosshead.attention.functional import Implementation
from crosshead.attention.impl import fused, streamed
from crosshead.testing.inputs import MASK_NAMES, OperatorInputs, make_inputs
from crosshead.testing.kernel import Yardstick

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
MATRICES = ("query_logits", "query_weights", "key_logits", "key_weights")
OPERANDS = {
    "query": "query_mask",
    "key": "key_mask",
    "value": "key_mask",
    "query_landmarks": "landmark_mask",
    "key_landmarks": "landmark_mask",
}
LARGEST = 2**14  # numbers of the two factors of one call, B H L (N + M): a call takes some milliseconds


@dataclass(frozen=True, kw_only=True)
class Call:
    """What the operator is called with."""

    inputs: OperatorInputs
    scale: float | None
    tile: int | None  # tokens that `streamed` takes at a time, None for as many as it likes
    words: str


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    options = metafunc.config.option
    metafunc.parametrize("seed", range(options.fuzz_seed, options.fuzz_seed + options.fuzz_calls))


def test_a_random_call(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    call = random_call(seed)
    inputs = call.inputs
    if call.tile:
        rows = inputs.query_landmarks.shape[1] * inputs.query_landmarks.shape[2]
        monkeypatch.setattr(streamed, "SHORTEST_TILE", 1)
        monkeypatch.setattr(streamed, "TILE_ELEMENTS", rows * call.tile)
    yardstick = Yardstick([inputs], scale=call.scale)
    implementations: list[Implementation] = ["reference", "streamed"]
    if fused.refusal(inputs.query, inputs.value, None) is None:
        implementations.append("fused")
    for impl in implementations:
        try:
            assert_zero_outside(inputs, yardstick.assert_right(partial(interactive_attention, impl=impl)))
        except AssertionError as error:
            again = f"pytest tests/attention/test_fuzz.py --fuzz-calls 1 --fuzz-seed {seed}"
            pytest.fail(f"{impl} is outside the budget. Again: {again}\n{call.words}\n{error}")


def assert_zero_outside(inputs: OperatorInputs, results: dict[str, Tensor]) -> None:
    """No rounding reaches what takes no part: masked places, and samples in which one mask leaves nothing."""
    masks = {name: mask for name in MASK_NAMES if (mask := getattr(inputs, name)) is not None}
    alive = torch.ones(inputs.query.shape[0], 1, dtype=torch.bool)
    for mask in masks.values():
        alive = alive & mask.any(1, keepdim=True)
    for name, of in OPERANDS.items():
        part = alive & masks.get(of, alive)
        gradient = results[f"grad {name}"].view(getattr(inputs, name).shape)
        assert not gradient.masked_fill(part[:, None, :, None], 0).any(), f"grad {name} is not zero outside"
    part = alive & masks.get("query_mask", alive)
    output = results["output"].view(*inputs.query.shape[:3], -1)
    assert not output.masked_fill(part[:, None, :, None], 0).any(), "output is not zero outside"


def random_call(seed: int) -> Call:
    dice = random.Random(seed)
    dtype = dice.choice(DTYPES)
    sizes = random_sizes(dice)
    divisors = [size for size in range(1, sizes["heads"] + 1) if sizes["heads"] % size == 0]
    group_size = dice.choice((sizes["heads"], dice.choice(divisors)))
    inputs = make_inputs(**sizes, group_size=group_size, dtype=torch.float64, requires_grad=False, seed=seed)
    # Spread of the logits, of the values, and how strongly heads mix.
    loudness, height, strength = (10 ** dice.uniform(*ends) for ends in ((-3, 3), (-3, 3), (-2, 0.5)))
    scale = None if dice.random() < 0.5 else dice.choice((1, -1)) * 10 ** dice.uniform(-1.5, 1)
    loudness /= abs(scale) * sizes["head_dim"] ** 0.5 if scale else 1
    matrices = {name: getattr(inputs, name) for name in MATRICES if dice.random() < 0.5}
    of_matrices = dtype if dice.random() < 0.7 else torch.float32
    masks = {name: random_mask(dice, inputs, name) for name in MASK_NAMES if dice.random() < 0.35}
    louder = {"query": loudness, "query_landmarks": loudness, "value": height}
    layouts = {}
    operands = {}
    for name, mask in OPERANDS.items():
        x = (getattr(inputs, name) * louder.get(name, 1.0)).to(dtype)
        layouts[name] = dice.choice(list(LAYOUTS))
        if mask in masks and "repeated" not in layouts[name]:
            nothing = dice.choice((0.0, float("nan"), float("inf")))
            x = x.masked_fill(~masks[mask][:, None, :, None], nothing)
        operands[name] = LAYOUTS[layouts[name]](x).requires_grad_()
    absent = dict.fromkeys(MATRICES)
    mixing = {name: (x * strength).to(of_matrices).requires_grad_() for name, x in matrices.items()}
    return Call(
        inputs=replace(inputs, **operands, **absent | mixing, **masks),
        scale=scale,
        tile=dice.choice((None, dice.randint(1, max(sizes["queries"], sizes["keys"])))),
        words=f"{dtype} {sizes} loudness {loudness:.3g}, height {height:.3g}, mixing {list(matrices)} "
        f"of {group_size} heads, {strength:.3g} {of_matrices}, masks {list(masks)}, scale {scale}, "
        f"layouts {layouts}",
    )


def random_sizes(dice: random.Random) -> dict[str, Any]:
    ends = {
        "batch": 4,
        "heads": 24,
        "queries": 700,
        "keys": 700,
        "landmarks": 64,
        "head_dim": 40,
        "value_dim": 40,
    }
    while True:
        sizes = {name: round(end ** dice.random() ** 1.5) for name, end in ends.items()}
        rows = sizes["batch"] * sizes["heads"] * sizes["landmarks"]
        if rows * (sizes["queries"] + sizes["keys"]) <= LARGEST:
            return sizes


def random_mask(dice: random.Random, inputs: OperatorInputs, name: str) -> Tensor:
    of = {"query_mask": inputs.query, "key_mask": inputs.key, "landmark_mask": inputs.query_landmarks}[name]
    shape = (of.shape[0], of.shape[2])
    generator = torch.Generator().manual_seed(dice.getrandbits(32))
    mask = torch.rand(shape, generator=generator) < dice.choice((0.1, 0.5, 0.95, 1.0))
    if dice.random() < 0.3:
        mask[dice.randrange(shape[0])] = False
    return mask


def sliced(x: Tensor) -> Tensor:
    """In the middle of storage that is NaN elsewhere."""
    batch, heads, rows, dim = x.shape
    room = x.new_full((batch, heads, rows + 3, dim + 3), float("nan"))
    room[:, :, 1:-2, 2:-1] = x
    return room[:, :, 1:-2, 2:-1]


LAYOUTS = {
    "contiguous": lambda x: x,
    "as a fused projection": lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
    "channels apart": lambda x: x.mT.contiguous().mT,
    "batch inside": lambda x: x.movedim(0, -1).contiguous().movedim(-1, 0),
    "every second channel": lambda x: x.repeat_interleave(2, -1)[..., ::2],
    "one sample repeated": lambda x: x[:1].expand_as(x),
    "one head repeated": lambda x: x[:, :1].expand_as(x),
    "sliced": sliced,
}

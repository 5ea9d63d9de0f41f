"""The rivals by name."""

import pytest
import torch

from crosshead import InteractiveAttention
from crosshead.rivals import MECHANISMS, attention_class
from crosshead.rivals.layer import Mechanism, Rival
from crosshead.rivals.registry import INTERACTIVE

NAMES = [
    "softmax",
    "talking-heads",
    "re-attention",
    "interleaved-heads",
    "differential",
    "linformer",
    "performer",
    "nystromformer",
    "agent",
    "agent-talking-heads",
    "efficient",
    "hydra",
    "cosformer",
    "focused-linear",
    "xca",
    "efficientvit",
    "role-guided",
    "adamra",
    "globalmind",
]


def test_the_names_stand_in_the_order_of_the_tables():
    assert list(MECHANISMS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_name_has_a_class_of_its_own_with_its_facts(name):
    found = attention_class(name)
    assert issubclass(found, Rival)
    assert isinstance(found.mechanism, Mechanism)
    assert [other for other in NAMES if attention_class(other) is found] == [name]


@pytest.mark.parametrize("field", ["paper", "source"])
@pytest.mark.parametrize("name", NAMES)
def test_docstring_and_facts_agree(name, field):
    described = " ".join((attention_class(name).__doc__ or "").split())
    fact = getattr(attention_class(name).mechanism, field)
    if field == "paper":
        assert fact.rpartition(", ")[2].removeprefix("arXiv ") in described
    else:
        # Either a class of a library, or how it was written and what was assumed.
        assert fact.split()[-1] in described or "ssumed" in described


def test_a_wrong_name_is_told_near_ones_and_all():
    with pytest.raises(
        ValueError, match=r"got 'nystrom': did you mean nystromformer\? There are softmax, "
    ) as told:
        attention_class("nystrom")
    assert str(told.value).endswith(", ".join(NAMES))
    with pytest.raises(ValueError, match=r"got 'zzz': There are softmax, "):
        attention_class("zzz")


def test_what_is_declared_of_interactive_attention_is_so():
    can = INTERACTIVE.capabilities
    assert all((can.key_mask, can.any_grid, can.any_length, INTERACTIVE.heads_talk))
    layer = InteractiveAttention(16, 4, landmarks=(2, 2))
    for grid in ((4, 4), (6, 4)):
        x = torch.randn(2, grid[0] * grid[1], 16)
        mask = torch.rand(x.shape[:2]) < 0.5
        assert layer(x, grid=grid, key_mask=mask).shape == x.shape

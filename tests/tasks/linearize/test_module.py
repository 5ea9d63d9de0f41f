"""What a student learns in each kind of epoch, what stays, and how well it agrees with its teacher."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from crosshead.tasks.linearize.agreement import agreement, relative_error
from crosshead.tasks.linearize.module import Linearizer
from crosshead.tasks.linearize.recipe import LinearizeRecipe
from crosshead.tasks.linearize.teacher import build_student, find_teacher


@pytest.fixture
def make(vit):
    def module(*, keep: tuple[int, ...] = (), **options: Any) -> Linearizer:
        teacher = find_teacher(LinearizeRecipe(model=str(vit), epochs=2)).build(pretrained=True)
        recipe = LinearizeRecipe(model=str(vit), epochs=2, landmarks=(2, 2), keep=keep)
        student = build_student(recipe, copy.deepcopy(teacher)).requires_grad_(True)
        return Linearizer(student, teacher=teacher, **options)

    return module


def images(height: int = 16, width: int = 16, *, count: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def learn(module: Linearizer, *, layers: bool, steps: int = 60, size: tuple[int, int] = (16, 16)) -> None:
    """Steps of the kind of an epoch, each on other images."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3, weight_decay=0.1)
    for step in range(steps):
        given = images(*size, seed=step + 1)
        loss = module.layer_errors(given).mean() if layers else module.feature_loss(given)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_by_itself_each_layer_comes_closer_to_its_teacher(make):
    module, unseen = make(), images(seed=999)
    before = module.layer_errors(unseen).detach()
    learn(module, layers=True)
    after = module.layer_errors(unseen).detach()
    assert before.shape == (3,)
    assert (after < 0.9 * before).all(), (before, after)


def test_as_a_whole_its_tokens_come_closer(make):
    module, unseen = make(), images(seed=999)
    teacher = module.patch_tokens(module.teacher, unseen)

    def found():
        with torch.no_grad():
            return agreement(module.patch_tokens(module.model, unseen), teacher).centered.mean()

    before = found()
    learn(module, layers=False)
    assert 1 - found() < 0.8 * (1 - before)


def test_no_gradient_passes_from_layer_to_layer(make):
    module = make()
    module.layer_errors(images()).mean().backward()
    reached = {name for name, parameter in module.model.named_parameters() if parameter.grad is not None}
    assert reached == {
        name
        for name, _ in module.model.named_parameters()
        if any(name.startswith(f"{layer}.") for layer in module.layers)
    }


@pytest.mark.parametrize(("layers", "trained"), [(True, "blocks"), (True, "attention"), (False, "attention")])
def test_what_is_not_trained_stays_to_the_bit(make, layers, trained):
    module = make(trained=trained, keep=(1,))
    assert module.layers == ["blocks.0.attn", "blocks.2.attn"]
    before = copy.deepcopy(module.model.state_dict())
    learn(module, layers=layers, steps=3)
    for name, tensor in module.model.state_dict().items():
        is_trained = name.startswith(("blocks.0.attn.", "blocks.2.attn."))
        assert torch.equal(tensor, before[name]) != is_trained, name


def test_all_blocks_may_be_trained_but_no_embedding(make):
    module = make(keep=(1,))
    before = copy.deepcopy(module.model.state_dict())
    learn(module, layers=False, steps=3)
    same = {name for name, tensor in module.model.state_dict().items() if torch.equal(tensor, before[name])}
    assert same == {"cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"}


def test_the_teacher_neither_learns_nor_is_saved(make):
    module = make()
    before = copy.deepcopy(module.teacher.state_dict())
    learn(module, layers=False, steps=3)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.teacher.state_dict().items())
    assert {name.split(".")[0] for name in module.state_dict()} == {"model"}
    assert not module.train().teacher.training


@pytest.mark.parametrize("size", [(20, 12), (4, 36), (16, 16), (28, 28)])
def test_images_of_any_size_are_learned_from(make, size):
    module = make()
    for loss in (module.layer_errors(images(*size)).mean(), module.feature_loss(images(*size))):
        loss.backward()
        assert loss.isfinite()
        assert loss > 0


def test_a_student_that_is_its_teacher_has_no_error(make):
    module = make(keep=(0, 1))
    module.model.blocks[2].attn = copy.deepcopy(module.teacher.blocks[2].attn)
    module.model.share_grid()
    assert module.feature_loss(images()) == 0
    assert (
        agreement(
            *(module.patch_tokens(net, images()) for net in (module.model, module.teacher))
        ).centered.min()
        > 1 - 1e-5
    )


def test_the_rate_has_a_cosine_for_each_kind_of_epoch(make):
    module = make(
        attention_epochs=4,
        feature_learning_rate=1e-4,
        learning_rate=1e-3,
        min_learning_rate=1e-6,
        warmup_epochs=1,
    )
    module.trainer = type("Trainer", (), {"max_epochs": 10})()  # pyright: ignore[reportAttributeAccessIssue]
    rates = [module.rate_at(epoch) for epoch in (0, 0.5, 1, 2.5, 3.999, 4, 4.5, 5, 7.5, 10)]
    expected = [0, 5e-4, 1e-3, 5.005e-4, 1e-6, 0, 5e-5, 1e-4, 5.05e-5, 1e-6]
    assert rates == pytest.approx(expected, rel=1e-3, abs=2e-8)


def test_agreement_takes_the_mean_token_off():
    tokens = torch.randn(2, 50, 8, generator=torch.Generator().manual_seed(0)) + 5
    flat = tokens.mean(1, keepdim=True).expand_as(tokens) + 1e-4 * torch.randn(2, 50, 8)
    found = agreement(flat, tokens)
    assert found.cosine.min() > 0.9
    assert found.centered.abs().max() < 0.3
    assert agreement(2 * tokens, tokens).centered.min() > 1 - 1e-6
    assert relative_error(2 * tokens, tokens) == 1


def test_steps_take_the_sizes_in_turn_at_the_same_cost(make, monkeypatch):
    module = make(crop_sizes=(16, 32))
    shapes = []
    for step in range(4):
        monkeypatch.setattr(Linearizer, "global_step", step)
        shapes.append(tuple(module.of_size_in_turn(images(32, 32, count=8)).shape))
    assert shapes == 2 * [(8, 3, 16, 16), (2, 3, 32, 32)]
    assert make().of_size_in_turn(images(8, 24)).shape == (4, 3, 8, 24)

"""What a student learns in each kind of epoch, what stays, and how well it agrees with its teacher."""

import copy
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from crosshead.tasks.linearize.agreement import agreement, relative_error
from crosshead.tasks.linearize.module import Linearizer
from crosshead.tasks.linearize.recipe import LinearizeRecipe
from crosshead.tasks.linearize.streams import Streams
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


@torch.enable_grad()
def learn(module: Linearizer, *, steps: int = 60, rate: float = 3e-3) -> None:
    """Steps of the whole net, each on other images."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=rate, weight_decay=0.1)
    for step in range(steps):
        optimizer.zero_grad()
        module.feature_loss(images(seed=step + 1)).backward()
        optimizer.step()


def learn_blocks(module: Linearizer, *, passes: int = 8) -> list[tuple[float, float, float]]:
    """Block after block on the same eight batches: its loss at first, when it has learned, and refitted."""
    module.trainer = Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)
    batches = [images(seed=seed + 1) for seed in range(8)]
    module.streams = Streams(module.teacher, module.model, batches, device=torch.device("cpu"))
    losses = []
    for stage in module.stages:
        assert stage.block is not None
        while module.streams.block < stage.block:
            module.streams.advance()
        module.let_learn(stage.kind, stage.block)
        optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3, weight_decay=0.1)
        found = [mean_loss(module)]
        for place in passes * list(range(8)):
            optimizer.zero_grad()
            module.block_loss(place).backward()
            optimizer.step()
        found.append(mean_loss(module))
        module.streams.refit()
        losses.append((*found, mean_loss(module)))
        module.finish_block()
    return losses


@torch.no_grad()
def mean_loss(module: Linearizer) -> float:
    return float(torch.stack([module.block_loss(place) for place in range(8)]).mean())


def test_each_block_comes_closer_to_its_teacher_by_learning_and_again_by_a_refit(make):
    module = make(blockwise=True)
    assert [stage.block for stage in module.stages] == [0, 1, 2]
    for before, learned, refitted in learn_blocks(module):
        assert learned < 0.9 * before
        assert refitted < learned


def test_block_by_block_the_last_tokens_come_closer(make):
    module, unseen = make(blockwise=True), images(seed=999)
    teacher = module.patch_tokens(module.teacher, unseen)
    before = relative_error(module.patch_tokens(module.model, unseen), teacher)
    learn_blocks(module)
    assert relative_error(module.patch_tokens(module.model, unseen), teacher) < 0.9 * before


def test_as_a_whole_its_tokens_come_closer(make):
    module, unseen = make(), images(seed=999)
    with torch.no_grad():
        before = module.feature_loss(unseen)
        learn(module, rate=3e-4)
        assert module.feature_loss(unseen) < 0.8 * before


def test_no_gradient_passes_from_block_to_block(make):
    module = make(blockwise=True)
    learn_blocks(module, passes=0)
    module.let_learn("block", 1)
    module.streams.block, module.streams.part = 1, 0
    module.block_loss(0).backward()
    reached = {name for name, parameter in module.model.named_parameters() if parameter.grad is not None}
    of_block = {name for name, _ in module.model.named_parameters() if name.startswith("blocks.1.attn.")}
    assert reached == of_block != set()


@pytest.mark.parametrize("blockwise", [True, False])
def test_where_attention_alone_is_trained_all_else_stays_to_the_bit(make, blockwise):
    module = make(trained="attention", keep=(1,), blockwise=blockwise)
    assert module.layers == ["blocks.0.attn", "blocks.2.attn"]
    before = copy.deepcopy(module.model.state_dict())
    if blockwise:
        assert [stage.block for stage in module.stages] == [0, 2]
        learn_blocks(module, passes=1)
    else:
        learn(module, steps=3)
    for name, tensor in module.model.state_dict().items():
        is_trained = name.startswith(("blocks.0.attn.", "blocks.2.attn."))
        assert torch.equal(tensor, before[name]) != is_trained, name


def test_a_block_changes_its_attention_and_the_end_of_its_mlp_alone(make):
    module = make(keep=(1,), blockwise=True)
    before = copy.deepcopy(module.model.state_dict())
    learn_blocks(module, passes=1)
    changed = {
        name for name, tensor in module.model.state_dict().items() if not torch.equal(tensor, before[name])
    }
    expected = {name for name in before if ".attn." in name or ".mlp.fc2." in name}
    assert changed == expected


def test_all_blocks_may_be_trained_but_no_embedding(make):
    module = make(keep=(1,))
    before = copy.deepcopy(module.model.state_dict())
    learn(module, steps=3)
    same = {name for name, tensor in module.model.state_dict().items() if torch.equal(tensor, before[name])}
    assert same == {"cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"}


def test_the_teacher_neither_learns_nor_is_saved(make):
    module = make()
    before = copy.deepcopy(module.teacher.state_dict())
    learn(module, steps=3)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.teacher.state_dict().items())
    assert {name.split(".")[0] for name in module.state_dict()} == {"model"}
    assert not module.train().teacher.training


@pytest.mark.parametrize("size", [(20, 12), (4, 36), (16, 16), (28, 28)])
def test_images_of_any_size_are_learned_from(make, size):
    module = make()
    module.streams = Streams(module.teacher, module.model, [images(*size)], device=torch.device("cpu"))
    for loss in (
        module.layer_errors(images(*size)).mean(),
        module.block_loss(0),
        module.feature_loss(images(*size)),
    ):
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


def test_stages_follow_each_other_each_with_its_rate(make):
    module = make(
        epochs=(4, 6),
        blockwise=True,
        learning_rate=1e-3,
        block_learning_rate=5e-4,
        feature_learning_rate=1e-4,
    )
    assert module.epochs_before == 7
    stages = [module.stage_at(epoch) for epoch in range(13)]
    assert [stage.kind for stage in stages] == 4 * ["attention"] + 3 * ["block"] + 6 * ["features"]
    assert [stage.peak for stage in stages] == 4 * [1e-3] + 3 * [5e-4] + 6 * [1e-4]
    assert [stage.block for stage in stages[4:7]] == [0, 1, 2]


def test_in_the_first_stage_each_layer_comes_closer_by_itself(make):
    module, unseen = make(keep=(1,)), images(seed=999)
    module.let_learn("attention")
    before = copy.deepcopy(module.model.state_dict())
    errors = module.layer_errors(unseen).detach()
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3, weight_decay=0.1)
    for step in range(60):
        optimizer.zero_grad()
        module.layer_errors(images(seed=step + 1)).mean().backward()
        optimizer.step()
    assert errors.shape == (2,)
    assert (module.layer_errors(unseen) < 0.9 * errors).all()
    for name, tensor in module.model.state_dict().items():
        assert torch.equal(tensor, before[name]) != name.startswith(("blocks.0.attn.", "blocks.2.attn.")), (
            name
        )


def test_the_class_token_counts_as_much_as_all_patches(make):
    module = make()
    wanted = torch.ones(2, 17, 24)
    given = wanted.clone()
    given[:, 0] = 0
    assert module.error_by_kind(given, wanted) == 0.5
    assert module.error_by_kind(2 * wanted, wanted) == 1
    module.model.num_prefix_tokens = 0
    assert module.error_by_kind(given, wanted) == pytest.approx(1 / 17)


def test_agreement_takes_the_mean_token_off():
    tokens = torch.randn(2, 50, 8, generator=torch.Generator().manual_seed(0)) + 5
    flat = tokens.mean(1, keepdim=True).expand_as(tokens) + 1e-4 * torch.randn(2, 50, 8)
    found = agreement(flat, tokens)
    assert found.cosine.min() > 0.9
    assert found.centered.abs().max() < 0.3
    assert agreement(2 * tokens, tokens).centered.min() > 1 - 1e-6
    assert relative_error(2 * tokens, tokens) == 1


def test_steps_take_the_sizes_in_turn_at_the_same_cost(make):
    module = make(crop_sizes=(16, 32))
    shapes = [tuple(module.of_size_in_turn(images(32, 32, count=8), turn).shape) for turn in range(4)]
    assert shapes == 2 * [(8, 3, 16, 16), (2, 3, 32, 32)]
    assert make().of_size_in_turn(images(8, 24), 1).shape == (4, 3, 8, 24)

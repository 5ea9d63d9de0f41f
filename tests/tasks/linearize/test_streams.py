"""What flows between the blocks of two nets, and the weights that a block ends in."""

import copy
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import Block, ResPostBlock, VisionTransformer
from torch import nn

from crosshead.tasks.linearize.streams import RIDGE, Streams, parts
from crosshead.vision import swap_attention

CPU = torch.device("cpu")


def nets(**options: Any) -> tuple[Any, Any]:
    torch.manual_seed(0)
    shape = {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 3, "num_heads": 3}
    teacher = VisionTransformer(**shape, num_classes=0, dynamic_img_size=True, **options).eval()
    for parameter in teacher.blocks.parameters():
        # Fresh weights are small, and so is what attention adds to its tokens.
        parameter.data *= 4 if parameter.ndim == 2 else 1
    student = swap_attention(copy.deepcopy(teacher), landmarks=(2, 2)).eval()
    return teacher.requires_grad_(False), student.requires_grad_(False)


def batches(*sizes: tuple[int, int]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(3, 3, *size, generator=generator) for size in sizes]


def test_they_are_what_the_nets_compute():
    teacher, student = nets()
    streams = Streams(teacher, student, batches((16, 16), (8, 20)), device=CPU)
    while streams.block < 2 or streams.part < 1:
        streams.advance()
    for place, images in enumerate(batches((16, 16), (8, 20))):
        lacking, due = streams.errors(place)
        after = streams.wanted[place] - lacking
        assert torch.allclose(after - streams.given[place], due - lacking, atol=1e-5)
        assert torch.allclose(student.norm(after), student.forward_features(images), atol=1e-4)
        assert torch.allclose(
            teacher.norm(streams.wanted[place]), teacher.forward_features(images), atol=1e-4
        )


def test_a_student_that_is_its_teacher_lacks_nothing():
    teacher, student = nets()
    streams = Streams(teacher, student, batches((16, 16)), device=CPU)
    for block in range(3):
        student.blocks[block].attn = copy.deepcopy(teacher.blocks[block].attn)
    student.share_grid()
    for part in range(6):
        assert (streams.block, streams.part) == divmod(part, 2)
        lacking, due = streams.errors(0)
        assert lacking.abs().max() < 1e-5 < due.abs().max()
        streams.advance()


@pytest.mark.parametrize("gain", [None, 0.1])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("part", [0, 1])
def test_a_refit_is_where_no_weight_lowers_the_error_any_more(gain, bias, part):
    teacher, student = nets(init_values=gain)
    block = student.blocks[0]
    last, scale = (block.mlp.fc2, block.ls2) if part else (block.attn.proj, block.ls1)
    if gain is not None:
        scale.gamma[3] = 0.0
    if not bias:
        last.bias = None
    streams = Streams(teacher, student, batches(*(6 * [(16, 16)])), device=CPU)
    if part:
        streams.advance()
    before = last.weight.clone()
    slope = slope_of(streams, before, bias=bias)
    streams.refit()
    assert slope_of(streams, before, bias=bias) < 1e-3 * slope
    changed = (last.weight - before).abs().amax(1) > 0
    assert changed.tolist() == [gain is None or channel != 3 for channel in range(24)]


def slope_of(streams: Streams, before: torch.Tensor, *, bias: bool) -> float:
    """The largest gradient of the squared error with its ridge, by the weights of the last map."""
    _, last, gain = streams.learner
    assert last is not None
    weight, seen = last.weight.requires_grad_(True), []
    hook = last.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0].detach()))
    error = sum(streams.errors(place)[0].square().sum() for place in range(len(streams)))
    hook.remove()
    inputs = torch.cat(seen).flatten(0, 1)
    ridge = RIDGE * (inputs.square().sum() + bias * len(inputs)) / (last.in_features + bias)
    added = (weight - before) * (1 if gain is None else gain[:, None])
    (slope,) = torch.autograd.grad(error + ridge * added.square().sum(), weight)
    weight.requires_grad_(False)
    return float(slope.abs().max())


def test_only_parts_that_end_in_a_linear_map_have_one():
    assert [part.last for part in parts(ResPostBlock(8, 2))] == [None]
    block = Block(8, 2)
    assert [part.last for part in parts(block)] == [block.attn.proj, block.mlp.fc2]
    block.mlp.fc2 = nn.Identity()
    assert [part.last for part in parts(block)] == [block.attn.proj, None]


def test_a_block_of_another_kind_learns_as_a_whole_and_is_not_refitted():
    teacher, student = nets(block_fn=ResPostBlock)
    streams = Streams(teacher, student, batches((16, 16)), device=CPU)
    before = copy.deepcopy(student.state_dict())
    streams.refit()
    assert all(torch.equal(tensor, before[name]) for name, tensor in student.state_dict().items())
    student.blocks[0].attn.requires_grad_(True)
    streams.errors(0)[0].square().sum().backward()
    assert student.blocks[0].attn.proj.weight.grad.abs().sum() > 0

"""How attention in a ViT learns its grid: every call its own, whatever else is going on."""

import copy
import io
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from timm.models import create_feature_extractor
from timm.models.vision_transformer import ParallelThingsBlock, ResPostBlock, VisionTransformer
from timm.optim import create_optimizer_v2
from torch import nn
from torch.testing import assert_close

from crosshead.vision import IsotropicViT, swap_attention
from crosshead.vision.on_grid import Carried, mixed

SIZE = {"img_size": 32, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 3, "num_classes": 5}
WIDE, TALL = (16, 48), (48, 16)  # as many tokens, in another grid


def isotropic(**options) -> Any:
    return IsotropicViT(attention_options={"landmarks": 3}, **{**SIZE, **options})


def swapped(**options) -> Any:
    return swap_attention(VisionTransformer(**{**SIZE, **options}), landmarks=3)


@pytest.fixture(params=[swapped, isotropic])
def build(request):
    def seeded(**options) -> Any:
        torch.manual_seed(0)
        model = request.param(**{"dynamic_img_size": True, **options}).eval()
        for name, parameter in model.named_parameters():
            if name.endswith("qkv.weight"):
                parameter.data *= 20  # fresh weights attend almost uniformly, on any grid alike
        return model

    return seeded


def images(size: tuple[int, int] = (32, 32)) -> torch.Tensor:
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def test_threads_see_the_grid_of_their_own_images(build):
    model, x = build(), {size: images(size) for size in (WIDE, TALL)}
    expected = {size: model(x[size]) for size in x}
    assert (expected[WIDE] - expected[TALL]).abs().max() > 1e-3
    both_embedded = threading.Barrier(2, timeout=60)

    def wait(*_) -> None:
        both_embedded.wait()

    model.norm_pre.register_forward_pre_hook(wait)

    def wrong(size: tuple[int, int]) -> int:
        return sum(not torch.allclose(model(x[size]), expected[size], atol=1e-6) for _ in range(100))

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(wrong, x)) == [0, 0]


@pytest.mark.parametrize("block", [None, ResPostBlock, ParallelThingsBlock])
def test_checkpointing_attends_again_on_the_grid_of_the_forward_pass(build, block):
    model = build(**({} if block is None else {"block_fn": block})).train()
    x, y = images(WIDE), images(TALL)
    for size in (x, y):
        model(size).square().sum().backward()
    expected = gradients(model)
    model.set_grad_checkpointing()
    first, second = model(x).square().sum(), model(y).square().sum()
    first.backward()
    second.backward()
    found = gradients(model)
    assert found.keys() == expected.keys()
    for name in expected:
        assert_close(found[name], expected[name], msg=name)


@pytest.mark.parametrize("dynamic", [True, False])
def test_checkpointing_computes_every_block_again(build, dynamic):
    model, x = build(dynamic_img_size=dynamic).train(), images()
    calls = []
    for block in model.blocks:
        block.mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    for enable, expected in [(False, 2), (True, 4)]:
        model.set_grad_checkpointing(enable)
        model(x).sum().backward()
        assert len(calls) == expected
        calls.clear()
        torch.stack(model.forward_intermediates(x, intermediates_only=True)).sum().backward()
        assert len(calls) == expected
        calls.clear()


def test_intermediates_are_the_maps_of_the_forward_pass(build):
    model, x = build(), images(WIDE)
    features, maps = model.forward_intermediates(x, output_fmt="NLC")
    assert [m.shape for m in maps] == [(2, 48, 24)] * 2
    assert_close(features, model.forward_features(x))
    assert_close(model.norm(maps[-1]), features[:, 1:])


@pytest.mark.parametrize("dynamic", [True, False])
def test_copies_and_pickles_compute_the_same(build, dynamic):
    model, x = build(dynamic_img_size=dynamic), images(WIDE if dynamic else (32, 32))
    file = io.BytesIO()
    torch.save(model, file)
    pickles = [pickle.dumps(model, protocol) for protocol in (2, pickle.HIGHEST_PROTOCOL)]
    mixed.cache_clear()  # as in a fresh process
    file.seek(0)
    twins = [copy.deepcopy(model), copy.copy(model), torch.load(file, weights_only=False)]
    for twin in [*twins, *map(pickle.loads, pickles)]:
        assert isinstance(twin, VisionTransformer)
        assert_close(twin(x), model(x))
        assert twin.state_dict().keys() == model.state_dict().keys()
        assert twin.no_weight_decay() == model.no_weight_decay()
        assert pickle.loads(pickle.dumps(twin))(x).shape == (2, 5)


def test_compiles_whole_with_checkpointing():
    torch._dynamo.reset()
    model = swapped(depth=1, dynamic_img_size=True).train()
    model.set_grad_checkpointing()
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="eager")
    for size in (WIDE, TALL):
        assert_close(compiled(images(size)), model(images(size)))


def test_exports_with_a_free_image_size_that_is_padded():
    model = swapped(depth=1, dynamic_img_size=True, dynamic_img_pad=True).eval()
    free = {2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    exported = torch.export.export(model, (images((19, 46)),), dynamic_shapes=(free,))
    assert_close(exported.module()(images((43, 18))), model(images((43, 18))))


def test_is_traced_symbolically_with_its_refusals(build):
    model, x = build(dynamic_img_size=False), images()
    traced = torch.fx.symbolic_trace(model)
    assert_close(traced(x), model(x))
    with pytest.raises(NotImplementedError, match="attn_mask must be None"):
        traced(x, torch.zeros(65, 65))


def test_features_are_taken_from_inside_the_attention(build):
    model, x, seen = build(dynamic_img_size=False), images(), []
    extractor = create_feature_extractor(model, {"blocks.0.attn.proj": "inside", "blocks.1": "last"})
    model.blocks[0].attn.proj.register_forward_hook(lambda module, args, y: seen.append(y))
    model.blocks[1].register_forward_hook(lambda module, args, y: seen.append(y))
    model(x)
    inside, last = seen
    assert_close(extractor(x), {"inside": inside, "last": last})


@pytest.mark.parametrize("dynamic", [True, False])
def test_optimizers_of_timm_decay_no_head_mixing(build, dynamic):
    model = build(dynamic_img_size=dynamic)
    optimizer = create_optimizer_v2(model, opt="adamw", weight_decay=0.1)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = [group["params"] for group in optimizer.param_groups if group["weight_decay"]]
    decayed = {names[id(parameter)] for group in groups for parameter in group}
    assert decayed == {name for name in names.values() if name.endswith(".weight") and "norm" not in name}


def test_resizing_a_fixed_model_moves_its_grid(build):
    model = build(dynamic_img_size=False)
    model.set_input_size((64, 16))
    free = build()
    free.set_input_size((64, 16))
    free.load_state_dict(model.state_dict())
    assert_close(model(images((64, 16))), free(images((64, 16))))


def test_blocks_of_a_fixed_model_work_alone_and_those_of_a_free_one_ask_for_the_grid(build):
    tokens = torch.randn(2, 65, 24, generator=torch.Generator().manual_seed(0))
    fixed, free = build(dynamic_img_size=False), build()
    with pytest.raises(RuntimeError, match=r"the token grid must be known.*call the whole model"):
        free.blocks(tokens)
    assert_close(free.blocks[0](tokens, attn_mask=Carried((8, 8))), fixed.blocks[0](tokens))


@pytest.mark.parametrize("dynamic", [True, False])
def test_refuses_masks_and_causality(build, dynamic):
    model, x = build(dynamic_img_size=dynamic), images()
    with pytest.raises(NotImplementedError, match="attn_mask must be None"):
        model(x, attn_mask=torch.ones(65, 65, dtype=torch.bool))
    with pytest.raises(NotImplementedError, match="is_causal False"):
        model(x, is_causal=True)
    with pytest.raises(NotImplementedError, match="is_causal False"):
        model.forward_intermediates(x, is_causal=True)

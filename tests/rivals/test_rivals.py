"""What every rival promises: one call, and a declaration of abilities that is true in both directions."""

from dataclasses import replace
from math import prod

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from crosshead.measure.flops import flop_counter
from crosshead.rivals import MECHANISMS
from crosshead.rivals.layer import Rival
from crosshead.vision.isotropic import IsotropicViT

DIM, HEADS = 16, 4
SQUARE, OBLONG = (4, 4), (6, 4)

# Samples of a batch see each other: the pseudo-inverse starts from a maximum over the batch.
BATCH_MATTERS = {"nystromformer"}
# In training they do so in a batch normalisation too.
BATCH_MATTERS_IN_TRAINING = BATCH_MATTERS | {"re-attention", "efficientvit"}
# The length of a padded sequence matters, although what pads it has no say: for the segments, for positions
# counted in parts of the length, for scales by the sides of the grid.
PADDING_MATTERS = {"nystromformer", "cosformer", "globalmind"}
# A bias that is always there, as the shift of a batch normalisation.
WITHOUT_CHOICE = {"efficientvit": ("proj_bias",)}

each_rival = pytest.mark.parametrize("name", MECHANISMS)


def able(*abilities: str) -> list[str]:
    """The rivals that declare all of these."""
    return [
        name
        for name, rival in MECHANISMS.items()
        if all(getattr(rival.mechanism.capabilities, ability) for ability in abilities)
    ]


def unable(ability: str) -> list[str]:
    return [name for name in MECHANISMS if name not in able(ability)]


def build(name: str, grid: tuple[int, int] = SQUARE, *, seed: int = 0, **options) -> Rival:
    """A layer in evaluation mode and float64, no parameter of which has a special value."""
    torch.manual_seed(seed)
    layer = MECHANISMS[name](DIM, HEADS, grid=grid, landmarks=(2, 2), **options).double().eval()
    for parameter in layer.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return layer


def tokens(grid: tuple[int, int] = SQUARE, *, batch: int = 2, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, prod(grid), DIM, dtype=torch.float64, generator=generator)


def holes(grid: tuple[int, int]) -> Tensor:
    """Masks of a padded sample, of one with holes, and of one without any valid token."""
    scattered = torch.rand(prod(grid), generator=torch.Generator().manual_seed(2)) < 0.6
    return torch.stack([torch.arange(prod(grid)) < prod(grid) - 6, scattered, torch.zeros_like(scattered)])


def same(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-11, atol=1e-11)


@each_rival
def test_the_shape_stays_and_every_parameter_gets_a_gradient(name):
    layer, x = build(name), tokens().requires_grad_()
    y = layer(x, grid=SQUARE)
    assert y.shape == x.shape
    y.square().sum().backward()
    for parameter_name, parameter in [("x", x), *layer.named_parameters()]:
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
    assert x.grad is not None
    assert x.grad.any()


@each_rival
def test_tokens_see_each_other(name):
    layer, x = build(name), tokens()
    other = x.clone()
    other[:, 0] += 1
    seen = layer(x, grid=SQUARE) != layer(other, grid=SQUARE)
    assert seen.any(-1).all()


@pytest.mark.parametrize("name", able("any_grid"))
def test_sides_may_differ_where_that_is_declared(name):
    assert build(name, OBLONG)(tokens(OBLONG), grid=OBLONG).isfinite().all()


def test_sides_that_differ_are_refused_where_they_are_not_declared(monkeypatch):
    layer = build("softmax")
    can = replace(layer.mechanism.capabilities, any_grid=False)
    monkeypatch.setattr(type(layer), "mechanism", replace(layer.mechanism, capabilities=can))
    assert layer(tokens(), grid=SQUARE).isfinite().all()
    with pytest.raises(NotImplementedError, match=r"takes square grids only; got \(6, 4\)"):
        layer(tokens(OBLONG), grid=OBLONG)


@pytest.mark.parametrize("name", able("any_length"))
def test_one_set_of_weights_serves_another_grid_where_that_is_declared(name):
    here, there = build(name, SQUARE), build(name, (8, 8), seed=3)
    there.load_state_dict(here.state_dict())
    x = tokens((8, 8))
    same(here(x, grid=(8, 8)), there(x, grid=(8, 8)))


@pytest.mark.parametrize("name", unable("any_length"))
def test_another_grid_is_refused_where_it_is_not_declared(name):
    with pytest.raises(NotImplementedError, match=r"built for a grid of \(4, 4\).*got \(8, 8\)"):
        build(name)(tokens((8, 8)), grid=(8, 8))
    with pytest.raises(RuntimeError, match="size mismatch"):
        build(name, (8, 8)).load_state_dict(build(name).state_dict())


@pytest.mark.parametrize("name", able("key_mask"))
def test_masked_tokens_have_no_say_whatever_they_hold(name):
    mask, gradients, outputs = holes(OBLONG), [], []
    for filling in (0.0, 5.0, torch.nan):
        layer = build(name, OBLONG)
        x = tokens(OBLONG, batch=3).masked_fill(~mask[..., None], filling).requires_grad_()
        y = layer(x, grid=OBLONG, key_mask=mask)
        y.square().sum().backward()
        outputs.append(y.detach())
        gradients.append([parameter.grad for parameter in (x, *layer.parameters())])
    assert not outputs[0][~mask].any()
    assert outputs[0][mask].any(-1).all()
    assert not gradients[0][0][~mask].any()
    for output, found in zip(outputs[1:], gradients[1:], strict=True):
        assert torch.equal(output, outputs[0])
        assert all(torch.equal(one, other) for one, other in zip(found, gradients[0], strict=True))


@pytest.mark.parametrize("name", able("key_mask"))
def test_a_mask_that_leaves_all_tokens_changes_nothing(name):
    layer, x = build(name, OBLONG), tokens(OBLONG)
    everyone = torch.ones(x.shape[:2], dtype=torch.bool)
    same(layer(x, grid=OBLONG, key_mask=everyone), layer(x, grid=OBLONG))


@pytest.mark.parametrize("name", able("key_mask", "any_length"))
def test_a_sample_padded_with_rows_gives_what_it_gives_alone(name):
    layer, x = build(name), tokens(batch=1)
    padded = torch.cat([x, tokens((2, 4), batch=1, seed=5)], 1)
    mask = torch.arange(24)[None] < 16
    together, alone = layer(padded, grid=OBLONG, key_mask=mask)[:, :16], layer(x, grid=SQUARE)
    if name in PADDING_MATTERS:
        assert not torch.allclose(together, alone, rtol=1e-4, atol=1e-4)
    else:
        same(together, alone)


@pytest.mark.parametrize("name", unable("key_mask"))
def test_a_mask_is_refused_where_none_is_declared(name):
    with pytest.raises(NotImplementedError, match="takes no key_mask: cut padding away"):
        build(name)(tokens(), grid=SQUARE, key_mask=torch.ones(2, 16, dtype=torch.bool))


@pytest.mark.parametrize("name", [name for name in unable("key_mask") if name in able("any_length")])
def test_a_mask_that_is_refused_would_be_needed(name):
    layer, x = build(name), tokens()
    padded = torch.cat([x, torch.zeros(2, 8, DIM, dtype=x.dtype)], 1)
    beside_zeros = layer(padded, grid=OBLONG)[:, :16]
    assert not torch.allclose(beside_zeros, layer(x, grid=SQUARE), rtol=1e-4, atol=1e-4)


class ElementsWritten(TorchDispatchMode):
    """Counts the elements of all that is computed: work that a counter of multiply-adds does not see."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.count += sum(x.numel() for x in tree_leaves(result) if isinstance(x, Tensor))
        return result


def work(name: str, rows: int) -> tuple[int, int]:
    """Multiply-adds of a pass over `rows` rows, and elements written."""
    layer, x = build(name, (rows, 4)), tokens((rows, 4))
    # Softmax attention in small operations, each of which both see.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        with flop_counter() as flops:
            layer(x, grid=(rows, 4))
        with ElementsWritten() as elements:
            layer(x, grid=(rows, 4))
    return flops.get_total_flops(), elements.count


@each_rival
def test_the_work_grows_with_the_tokens_as_declared(name):
    small, middle, large = (work(name, rows) for rows in (8, 16, 32))
    bends = [c - b - 2 * (b - a) for a, b, c in zip(small, middle, large, strict=True)]
    if MECHANISMS[name].mechanism.capabilities.linear:
        assert bends == [0, 0]
    else:
        assert min(bends) > 0


@pytest.mark.parametrize("training", [False, True])
@each_rival
def test_samples_of_a_batch_do_not_see_each_other(name, training):
    layer, x = build(name).train(training), tokens(batch=3)
    other = x.clone()
    other[1] *= 10
    before, after = layer(x, grid=SQUARE), layer(other, grid=SQUARE)
    if name in (BATCH_MATTERS_IN_TRAINING if training else BATCH_MATTERS):
        assert not torch.allclose(after[0], before[0], rtol=1e-6, atol=1e-6)
    else:
        same(after[::2], before[::2])


@each_rival
def test_the_same_call_gives_the_same_again(name):
    layer, x = build(name), tokens()
    assert torch.equal(layer(x, grid=SQUARE), layer(x, grid=SQUARE))


@each_rival
def test_weights_are_all_that_a_layer_is(name, tmp_path):
    layer, other, x = build(name), build(name, seed=7), tokens()
    assert not torch.equal(layer(x, grid=SQUARE), other(x, grid=SQUARE))
    torch.save(layer.state_dict(), tmp_path / "weights")
    other.load_state_dict(torch.load(tmp_path / "weights", weights_only=True))
    assert torch.equal(layer(x, grid=SQUARE), other(x, grid=SQUARE))


# timm's RMS norm keeps float32 weights under autocast, of which torch warns.
@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
@pytest.mark.parametrize("autocast", [False, True])
@each_rival
def test_bfloat16_comes_near(name, autocast):
    layer, x = build(name).bfloat16().double(), tokens().bfloat16().double()
    expected = layer(x, grid=SQUARE)
    layer, x = (layer.float(), x.float()) if autocast else (layer.bfloat16(), x.bfloat16())
    x.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        y = layer(x, grid=SQUARE)
    if not autocast:
        assert y.dtype == torch.bfloat16
    y.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in (x, *layer.parameters()))
    assert (y - expected).square().mean().sqrt() < 0.1 * expected.square().mean().sqrt()


@each_rival
def test_options_reach_the_layer(name):
    x, full = tokens(), build(name)
    bares = {"qkv_bias": build(name, qkv_bias=False), "proj_bias": build(name, proj_bias=False)}
    for option, bare in bares.items():
        fewer = len(list(bare.parameters())) < len(list(full.parameters()))
        assert fewer == (option not in WITHOUT_CHOICE.get(name, ()))
        assert bare(x, grid=SQUARE).isfinite().all()
    dropping = build(name, proj_drop=1.0)
    same(dropping(x, grid=SQUARE), full(x, grid=SQUARE))
    assert not dropping.train()(x, grid=SQUARE).any()


@each_rival
def test_parameters_live_where_they_are_told_to(name):
    placed = MECHANISMS[name](DIM, HEADS, grid=SQUARE, device="meta", dtype=torch.float64)
    for parameter_name, tensor in [*placed.named_parameters(), *placed.named_buffers()]:
        assert tensor.is_meta, parameter_name
        assert tensor.dtype == torch.float64 or not tensor.is_floating_point(), parameter_name


@each_rival
def test_it_works_inside_a_vit(name):
    model = IsotropicViT(
        attention=MECHANISMS[name],
        attention_options={"grid": (7, 7), "landmarks": (3, 3)},
        class_token=False,
        global_pool="avg",
        img_size=28,
        patch_size=4,
        in_chans=1,
        num_classes=10,
        embed_dim=32,
        depth=1,
        num_heads=4,
    )
    logits = model(torch.randn(2, 1, 28, 28))
    assert logits.shape == (2, 10)
    logits.square().sum().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name

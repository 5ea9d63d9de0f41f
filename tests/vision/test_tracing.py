"""Tools that record one call of a model, or transform it: tracers, exports, per-sample gradients."""

from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.export import Dim, export
from torch.func import functional_call, grad, vmap
from torch.fx import GraphModule
from torch.testing import assert_close

from crosshead import InteractiveAttention
from crosshead.vision import IsotropicViT, IViT

IVIT = {"depths": (1, 1, 2, 1), "dims": (8, 16, 32, 64), "num_classes": 5, "landmarks": (4, 4, 3, 2)}
VIT: dict[str, Any] = {
    "img_size": 32,
    "patch_size": 4,
    "embed_dim": 24,
    "depth": 2,
    "num_heads": 3,
    "num_classes": 5,
}
FREE_VIT = {**VIT, "dynamic_img_size": True}

tracing = pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.torch.jit:FutureWarning")


def build(kind: type, **options) -> Any:
    torch.manual_seed(0)
    return kind(**options).eval()


def images(height: int, width: int, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(height))


@tracing
@pytest.mark.parametrize(
    ("kind", "options", "sizes"),
    [
        (IViT, IVIT, [(64, 96), (96, 64), (33, 200), (1, 1)]),
        (IsotropicViT, FREE_VIT, [(64, 96), (96, 64), (16, 52)]),
    ],
)
def test_a_trace_serves_every_size(kind, options, sizes):
    model = build(kind, **options)
    traced: Any = torch.jit.trace(model, images(64, 96))
    for height, width in sizes:
        x = images(height, width, batch=3)
        assert_close(traced(x), model(x))


@tracing
def test_a_trace_of_a_fixed_size_refuses_others_and_names_the_sizes():
    model = build(IsotropicViT, **VIT)
    traced: Any = torch.jit.trace(model, images(32, 32))
    assert_close(traced(images(32, 32, batch=3)), model(images(32, 32, batch=3)))
    with pytest.raises(RuntimeError, match=r"tensor a \(97\) must match .* tensor b \(65\)"):
        traced(images(32, 48))


@tracing
def test_tensorboard_draws_the_graph(tmp_path):
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    with tensorboard.SummaryWriter(tmp_path) as writer:
        writer.add_graph(build(IViT, **IVIT), images(64, 96))
        writer.add_graph(
            build(InteractiveAttention, dim=8, num_heads=2, landmarks=(4,)), torch.randn(1, 9, 8)
        )
    (events,) = tmp_path.iterdir()
    assert b"Stage[2]" in events.read_bytes()


def test_gradients_of_each_sample_equal_those_of_a_loop():
    model, x = build(IViT, impl="reference", **IVIT).double(), images(64, 48, batch=3).double()
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def loss(parameters: dict[str, torch.Tensor], sample: torch.Tensor) -> torch.Tensor:
        return functional_call(model, parameters, (sample[None],)).square().sum()

    together = vmap(grad(loss), in_dims=(None, 0))(parameters, x)
    for i, sample in enumerate(x):
        alone = torch.autograd.grad(model(sample[None]).square().sum(), list(model.parameters()))
        for (name, batched), single in zip(together.items(), alone, strict=True):
            assert_close(batched[i], single, rtol=1e-9, atol=1e-11, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("place", ["fake", "meta"])
def test_ivit_is_built_without_numbers(place):
    with FakeTensorMode() if place == "fake" else torch.device("meta"):
        model = IViT(**IVIT, drop_path_rate=0.1, init_values=0.1, qk_norm=True)
        y = model(torch.empty(2, 3, 64, 96))
    assert y.shape == (2, 5)
    assert isinstance(y, FakeTensor) if place == "fake" else y.is_meta


def test_an_isotropic_vit_is_built_on_meta_and_then_called_without_numbers():
    with torch.device("meta"):
        model = IsotropicViT(**VIT, drop_path_rate=0.1)
    with FakeTensorMode(allow_non_fake_inputs=True):
        y = model.to_empty(device="cpu")(torch.empty(2, 3, 32, 32))
    assert isinstance(y, FakeTensor)
    assert y.shape == (2, 5)


ONE_LAYER = {IViT: {"depths": (1, 1, 1, 1), "attention_stages": (2,)}, IsotropicViT: {"depth": 1}}
PATCHES = {"height": 4 * Dim("rows", min=7, max=64), "width": 4 * Dim("columns", min=7, max=64)}
PIXELS = {"height": Dim("height", min=33, max=512), "width": Dim("width", min=33, max=512)}


@pytest.mark.parametrize(
    ("kind", "options", "sides"),
    [
        pytest.param(IViT, IVIT, PIXELS, id="iViT, named"),
        pytest.param(IsotropicViT, FREE_VIT, PATCHES, id="isotropic, named"),
        pytest.param(IViT, IVIT, None, id="iViT, dynamic", marks=pytest.mark.slow),
        pytest.param(IsotropicViT, FREE_VIT, None, id="isotropic, dynamic", marks=pytest.mark.slow),
    ],
)
def test_exports_with_dynamic_height_and_width(kind, options, sides):
    model = build(kind, **{**options, **ONE_LAYER[kind]})
    shapes = dict.fromkeys((0, 2, 3), Dim.DYNAMIC)
    if sides is not None:
        shapes = {0: Dim("batch", min=1, max=64), 2: sides["height"], 3: sides["width"]}
    program: Any = export(model, (images(96, 160),), dynamic_shapes=(shapes,)).module()
    for height, width in [(96, 160), (160, 96), (36, 200), (64, 64)]:
        x = images(height, width, batch=3)
        assert_close(program(x), model(x))


def test_an_export_is_one_graph():
    program = export(build(IViT, **IVIT), (images(64, 96),))
    assert sum(isinstance(module, GraphModule) for module in program.graph_module.modules()) == 1

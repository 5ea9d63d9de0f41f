"""Rotary positions in a swapped ViT: how landmarks are turned, what stays, what is refused.

Legend: `B` batch, `N` tokens, `H` heads, `D` head dim, `L` landmarks.
"""

import copy
from typing import Any

import pytest
import timm
import torch
from timm.layers import AttentionRope
from timm.models.eva import Eva, EvaAttention
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.testing import assert_close

from crosshead.vision import rotary, swap_attention
from crosshead.vision.rotary import RotaryAttention, at_centres

SIZE: Any = {"img_size": 32, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 3, "num_classes": 5}
TURNS: Any = {"use_rot_pos_emb": True, "use_abs_pos_emb": False}
# Two axes of odd length, which no number of cells but one divides, and cells of one token beside larger ones.
GRIDS = [((5, 7), (3, 4)), ((8, 8), (4, 2)), ((1, 6), (7, 7)), ((9, 4), (1, 3))]
ROPES: Any = {
    "cat": {},
    "offset": {"rope_grid_offset": 1.0, "rope_grid_indexing": "xy", "ref_feat_shape": 6},
    "dinov3": {"rope_type": "dinov3", "rope_temperature": 100.0, "rope_rotate_half": True},
    "mixed": {"rope_type": "mixed", "rope_temperature": 10.0},
    "mrope": {"rope_type": "mrope", "rope_rotate_half": True},
}


def eva(**options) -> Any:
    torch.manual_seed(0)
    model: Any = Eva(**{**SIZE, **TURNS, **options}).eval()
    for name, parameter in model.named_parameters():
        if name.endswith(("qkv.weight", "q_proj.weight", "k_proj.weight", "v_proj.weight")):
            parameter.data *= 20  # fresh weights attend almost uniformly, which no rotation would change
    return model


def swapped(*, landmarks: int = 3, **options) -> Any:
    return swap_attention(eva(**options), landmarks=landmarks)


def images(height: int = 32, width: int = 32) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))


def layers(model: nn.Module) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, RotaryAttention)]


# The equations, written out densely.


def cells_of(n: int, cells: int) -> list[range]:
    """The tokens in each cell of an axis."""
    cells = min(cells, n)
    return [range(i * n // cells, -(-(i + 1) * n // cells)) for i in range(cells)]


def means_over_cells(grid: tuple[int, int], landmarks: tuple[int, int]) -> Tensor:
    """(L, N), one row for each cell."""
    rows = []
    for vertical in cells_of(grid[0], landmarks[0]):
        for horizontal in cells_of(grid[1], landmarks[1]):
            inside = torch.zeros(grid, dtype=torch.float64)
            inside[vertical.start : vertical.stop, horizontal.start : horizontal.stop] = 1
            rows.append(inside.flatten() / inside.sum())
    return torch.stack(rows)


def turned(x: Tensor, angles: Tensor, *, half: bool) -> Tensor:
    """`x` (B, H, N, D) as D / 2 complex numbers, each turned by an angle (..., N, D / 2)."""
    first, second = x.chunk(2, -1) if half else (x[..., ::2], x[..., 1::2])
    number = torch.complex(first, second) * torch.polar(torch.ones_like(angles), angles)
    parts = [number.real, number.imag]
    return torch.cat(parts, -1) if half else torch.stack(parts, -1).flatten(-2)


def table(angles: Tensor, *, half: bool) -> Tensor:
    """Sines and cosines as timm hands them to blocks."""
    wide = torch.cat([angles, angles], -1) if half else angles.repeat_interleave(2, -1)
    return torch.cat([wide.sin(), wide.cos()], -1)


def oracle(
    layer: Any, x: Tensor, angles: Tensor, grid: tuple[int, int], landmarks: tuple[int, int]
) -> Tensor:
    """What the layer should give, from its parameters, by the names that timm's attention has."""
    heads, prefix = layer.num_heads, layer.num_prefix_tokens
    found = dict(layer.named_parameters())
    if "qkv.weight" in found:
        q, k, v = linear(x, found["qkv.weight"], found.get("qkv.bias")).chunk(3, -1)
        q, v = q + found.get("q_bias", 0), v + found.get("v_bias", 0)
    else:
        q, k, v = (linear(x, found[f"{n}_proj.weight"], found.get(f"{n}_proj.bias")) for n in "qkv")
    q, k, v = (y.unflatten(-1, (-1, layer.head_dim)).transpose(1, 2) for y in (q, k, v))
    k, v = (y.repeat_interleave(heads // y.shape[1], 1) for y in (k, v))
    q, k = layer.q_norm(q), layer.k_norm(k)

    pool = torch.block_diag(torch.eye(prefix, dtype=x.dtype), means_over_cells(grid, landmarks))
    still = torch.zeros(*angles.shape[:-2], prefix, angles.shape[-1], dtype=x.dtype)
    of_tokens = torch.cat([still, angles], -2)
    ql, kl = (turned(pool @ y, pool @ of_tokens, half=layer.rotate_half) for y in (q, k))
    q, k = (turned(y, of_tokens, half=layer.rotate_half) for y in (q, k))

    def factor(logits: Tensor, mixer: Any) -> Tensor:
        mixed = logits + torch.einsum("gh,bhrs->bgrs", mixer.logits, logits)
        weights = mixed.softmax(-1)
        return weights + torch.einsum("gh,bhrs->bgrs", mixer.weights, weights)

    scale = layer.head_dim**-0.5
    query_factor = factor(scale * q @ kl.transpose(-1, -2), layer.query_mixing)
    key_factor = factor(scale * ql @ k.transpose(-1, -2), layer.key_mixing)
    out = (query_factor @ key_factor @ v).transpose(1, 2).flatten(2)
    return layer.proj(layer.norm(out))


def drawn(*shape: int, seed: int = 2) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def check_against_oracle(options: dict[str, Any], grid: tuple[int, int], landmarks: tuple[int, int]) -> None:
    """Outputs and every gradient of a layer, angles drawn at random but linear in the position."""
    model = eva(**options).double()
    (layer, *_) = layers(swap_attention(model, landmarks=landmarks))
    for parameter in layer.parameters():
        parameter.data += 0.2 * drawn(*parameter.shape)
    prefix, pairs = layer.num_prefix_tokens, layer.head_dim // 2
    heads = (layer.num_heads,) if options.get("rope_type") == "mixed" else ()
    rows, columns = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in grid), indexing="ij")
    positions = torch.stack([rows.flatten(), columns.flatten()], -1)
    angles = positions @ drawn(*heads, 2, pairs, seed=3).clamp(-1.5, 1.5) + 0.3
    x = drawn(2, prefix + grid[0] * grid[1], 24, seed=4).requires_grad_()
    of_layer = {"x": x, **dict(layer.named_parameters())}
    cotangent = drawn(*x.shape, seed=5)

    def gradients(y: Tensor) -> dict[str, Tensor]:
        found = torch.autograd.grad((y * cotangent).sum(), list(of_layer.values()))
        return dict(zip(of_layer, found, strict=True))

    layer.token_grid = grid
    y = layer(x, rope=table(angles, half=layer.rotate_half))
    expected = oracle(layer, x, angles, grid, landmarks)
    assert_close(y, expected, rtol=1e-9, atol=1e-10)
    found = gradients(y)
    for name, wanted in gradients(expected).items():
        assert_close(found[name], wanted, rtol=1e-8, atol=1e-9, msg=name)


FORMS = [
    {},
    {"qkv_fused": False, "num_reg_tokens": 2},
    {"qkv_bias": False, "class_token": False, "rope_rotate_half": True},
    {"attn_type": "rope", "scale_attn_inner": True, "qk_norm": True},
    {"attn_type": "rope", "qkv_fused": False, "num_kv_heads": 1},
    {"rope_type": "mixed", "qk_norm": True},
]


@pytest.mark.parametrize(("grid", "landmarks"), GRIDS)
@pytest.mark.parametrize("options", FORMS, ids=["eva", "separate", "half", "norms", "grouped", "by head"])
def test_equals_the_dense_oracle(options, grid, landmarks):
    check_against_oracle(options, grid, landmarks)


WRONG: Any = {
    "the first token of the cell": lambda rope, grid, cells: at_centres(rope, grid, cells).roll(1, -2),
    "no rotation": lambda rope, grid, cells: table(torch.zeros(cells[0] * cells[1], 4), half=False).double(),
    "the mean of the table": lambda rope, grid, cells: means_over_cells(grid, cells) @ rope,
    "backwards": lambda rope, grid, cells: at_centres(rope, grid, cells) * torch.tensor(8 * [-1] + 8 * [1]),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_the_oracle_tells_a_wrong_rotation(wrong, monkeypatch):
    monkeypatch.setattr(rotary, "at_centres", WRONG[wrong])
    with pytest.raises(AssertionError):
        check_against_oracle({}, (5, 7), (3, 4))


def expected_angles(kind: str, positions: Tensor, grid: tuple[int, int], freqs: Tensor | None) -> Tensor:
    """Angles (..., N, D / 2) at any positions (N, 2), by the formulas of the papers."""
    bands = torch.arange(2, dtype=torch.float64)  # D = 8: two for each axis
    if kind == "mixed":
        assert freqs is not None
        return positions @ freqs[:, 0].detach().double().movedim(0, -2)
    if kind == "mrope":  # channels belong to time, rows, columns, time
        row, column = positions.unbind(-1)
        return torch.stack([0 * row, row * 10000 ** (-1 / 4), column * 10000 ** (-2 / 4), 0 * row], -1)
    if kind == "dinov3":
        centred = 2 * (positions + 0.5) / torch.tensor(grid) - 1
        return (2 * torch.pi * centred[..., None] / 100 ** (2 * bands / 4)).flatten(-2)
    if kind == "offset":
        positions = ((positions + 1) / torch.tensor(grid) * 6).flip(-1)
    return (positions[..., None] * 10000 ** (-bands / 2)).flatten(-2)


@pytest.mark.parametrize(("grid", "landmarks"), [((5, 7), (3, 4)), ((12, 10), (4, 5)), ((1, 6), (7, 7))])
@pytest.mark.parametrize("kind", ROPES)
def test_landmarks_are_turned_as_tokens_at_the_centres_of_their_cells(kind, grid, landmarks):
    model = eva(**ROPES[kind], dynamic_img_size=True, depth=1)
    half = ROPES[kind].get("rope_rotate_half", False)
    rope = model.rope.get_embed(shape=grid)
    rope = rope[0] if kind == "mixed" else rope
    rows, columns = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in grid), indexing="ij")
    positions = torch.stack([rows.flatten(), columns.flatten()], -1)
    freqs = model.rope.freqs if kind == "mixed" else None
    for places, found in [
        (positions, rope),
        (
            means_over_cells(grid, landmarks) @ positions,
            at_centres(rope, grid, tuple(map(min, grid, landmarks))),
        ),
    ]:
        angles = expected_angles(kind, places, grid, freqs)
        assert_close(found, table(angles, half=half).float(), rtol=0, atol=2e-5)


def test_only_distances_between_positions_count():
    """All positions moved alike change nothing: landmarks move along."""
    layer = layers(swap_attention(eva(class_token=False).double(), landmarks=3))[0]
    angles, x = drawn(1, 4) * torch.arange(64.0)[:, None], drawn(2, 64, 24, seed=7)
    layer.token_grid = (64, 1)
    y = layer(x, rope=table(angles, half=False))
    assert_close(layer(x, rope=table(angles + 0.7, half=False)), y)
    assert (layer(x, rope=table(1.1 * angles, half=False)) - y).abs().max() > 1e-3


def test_class_and_register_tokens_are_not_turned():
    """Moving the patches changes what passes between them and a class token that stays."""
    layer = layers(swap_attention(eva(num_reg_tokens=2).double(), landmarks=3))[0]
    assert layer.num_prefix_tokens == 3
    angles, x = drawn(1, 4) * torch.arange(64.0)[:, None], drawn(2, 67, 24, seed=7)
    moved = [layer(x, rope=table(angles + by, half=False)) for by in (0, 0.7)]
    assert (moved[0] - moved[1]).abs().max() > 1e-3
    alone = layer._turned(x.unflatten(-1, (3, 8)).transpose(1, 2), table(angles, half=False))
    assert torch.equal(alone[:, :, :3], x.unflatten(-1, (3, 8)).transpose(1, 2)[:, :, :3])


@pytest.mark.parametrize(
    "options",
    [
        *ROPES.values(),
        {"num_reg_tokens": 4, "dynamic_img_size": True},
        {"attn_type": "rope", "scale_attn_inner": True, "qk_norm": True},
        {"attn_type": "rope", "qkv_fused": False, "num_kv_heads": (1, 3)},
        {"qkv_fused": False, "use_abs_pos_emb": True, "use_post_norm": True},
        {"use_rot_pos_emb": False, "use_abs_pos_emb": True},
    ],
)
def test_weights_stay_and_the_function_changes(options):
    model, x = eva(**options), images()
    before, output, original = copy.deepcopy(model.state_dict()), model.forward_features(x), eva(**options)
    kept = dict(model.named_parameters())
    assert swap_attention(model, landmarks=4, local_kernel=3) is model
    assert isinstance(model, Eva)
    after = model.state_dict()
    assert set(before) < set(after)
    added = {name.split(".", 3)[3].split(".")[0] for name in set(after) - set(before)}
    assert added == {"query_mixing", "key_mixing", "local"}
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(kept[name] is p for name, p in model.named_parameters() if name in kept)
    assert not any(isinstance(module, EvaAttention | AttentionRope) for module in model.modules())
    assert (model.forward_features(x) - output).abs().max() > 0.01
    # A state dict of either kind is read.
    fresh = swap_attention(eva(**options), landmarks=4, local_kernel=3)
    for parameter in fresh.parameters():
        parameter.data += 1
    missing, unexpected = fresh.load_state_dict(original.state_dict(), strict=False)
    assert {name.split(".", 3)[3].split(".")[0] for name in missing} == added
    assert not unexpected
    fresh.load_state_dict(after)
    assert_close(fresh(x), model(x))


def test_one_landmark_per_token_and_uniform_keys_leave_the_function_as_it_was():
    """Keys of zero are the same after any rotation, and every factored attention averages the values."""
    model = eva(qkv_bias=False)
    for block in model.blocks:
        block.attn.qkv.weight.data[24:48] = 0
    expected = model(images())
    assert_close(swap_attention(model, landmarks=8)(images()), expected)


@pytest.mark.parametrize("options", ROPES.values(), ids=ROPES)
def test_a_free_image_size_gives_what_a_fixed_one_gives(options):
    free = swap_attention(eva(**options, dynamic_img_size=True), landmarks=3, keep=(1,))
    for size in [(20, 36), (32, 32), (8, 40)]:
        fixed = swap_attention(eva(**options, img_size=size), landmarks=3, keep=(1,))
        assert_close(free(images(*size)), fixed(images(*size)))
        resized: Any = swap_attention(eva(**options), landmarks=3, keep=(1,))
        resized.set_input_size(size)
        assert_close(resized(images(*size)), fixed(images(*size)))


@pytest.mark.parametrize("options", [{}, {"rope_type": "mixed"}, {"dynamic_img_size": True}])
def test_checkpointing_changes_no_gradient(options):
    calls, model = [], swapped(**options).train()
    for block in model.blocks:
        block.mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    found = []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        calls.clear()
        model(images()).square().sum().backward()
        assert len(calls) == (4 if enable else 2)
        found.append({name: p.grad for name, p in model.named_parameters()})
        model.zero_grad(set_to_none=True)
    assert all(gradient is not None for gradient in found[0].values())
    for name, gradient in found[0].items():
        assert_close(found[1][name], gradient, msg=name)


@pytest.mark.parametrize(
    "options", [{}, {"rope_type": "dinov3", "rope_rotate_half": True}, {"rope_type": "mixed"}]
)
def test_where_neighbours_are_half_a_turn_apart_numbers_stay_finite(options):
    """Four tokens an axis are half a turn of DINOv3's fastest pair apart: no angle lies in between."""
    model = swapped(landmarks=2, img_size=16, **options).train()
    if options.get("rope_type") == "mixed":
        model.rope.freqs.data[:] = torch.pi
    model(images(16, 16)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("kind", ROPES)
def test_exports_with_a_fixed_image_size(kind):
    model = swap_attention(eva(**ROPES[kind], depth=1), landmarks=3)
    exported = torch.export.export(model, (images(),), dynamic_shapes=({0: torch.export.Dim.AUTO},))
    assert_close(exported.module()(images()[:1]), model(images()[:1]))


# timm divides by the size as a number in the others, and so fixes it.
@pytest.mark.parametrize("options", [{}, {"rope_type": "mixed"}, {"rope_type": "mrope"}])
def test_exports_with_a_free_image_size(options):
    model = swap_attention(eva(**options, depth=1, dynamic_img_size=True), landmarks=3)
    sizes = {axis: 4 * torch.export.Dim(name, min=2, max=64) for axis, name in ((2, "rows"), (3, "columns"))}
    exported = torch.export.export(model, (images(20, 48),), dynamic_shapes=(sizes,))
    assert_close(exported.module()(images(44, 16)), model(images(44, 16)))


def test_half_precision_and_autocast_stay_near():
    model = swap_attention(eva(), landmarks=3)
    expected = model(images())
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(model(images()).float(), expected, rtol=0.1, atol=0.02)
    half = copy.deepcopy(model).bfloat16()
    assert half(images().bfloat16()).dtype == torch.bfloat16
    assert_close(half(images().bfloat16()).float(), expected, rtol=0.1, atol=0.05)


@pytest.mark.parametrize(
    "name",
    [
        *("eva02_tiny_patch14_224", "eva02_base_patch14_448", "eva02_base_patch16_clip_224"),
        *("eva_giant_patch14_224", "vit_small_patch16_dinov3", "vit_small_patch16_dinov3_qkvb"),
        *("vit_pe_core_tiny_patch16_384", "vit_pe_spatial_tiny_patch16_512", "vit_base_patch16_lingbot"),
        *("vit_small_patch16_rope_224", "vit_small_patch16_rope_mixed_ape_224", "vit_base_patch16_sapiens2"),
        *("vit_medium_patch16_rope_reg1_gap_256", "vit_betwixt_patch16_rope_reg4_gap_256"),
    ],
)
def test_swaps_models_of_the_registry(name):
    side = 6 * (14 if "patch14" in name else 16)
    groups: Any = {"num_kv_heads": (2,)} if "sapiens" in name else {}
    model: Any = timm.create_model(
        name, depth=1, embed_dim=64, num_heads=4, img_size=side, num_classes=3, **groups
    )
    x = images(side, side)
    model = swap_attention(model.eval(), landmarks=4)
    assert len(layers(model)) == 1
    assert model(x).shape == (2, 3)
    assert model(x).isfinite().all()


class TurnsItself(VisionTransformer):
    """Research code whose attention looks its rotation up by itself."""

    def __init__(self, **options) -> None:
        super().__init__(**options)
        self.rope = nn.Identity()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: eva(attn_drop_rate=0.1), "blocks.0.attn has attention dropout"),
        (lambda: eva(patch_drop_rate=0.5), "drops patches.*patch_drop_rate=0"),
        (lambda: TurnsItself(**SIZE), "TurnsItself, which rotates .* in a way of its own: take timm's Eva"),
    ],
)
def test_refuses_what_it_cannot_keep_and_changes_nothing(build, message):
    model = build()
    before = [type(module) for module in model.modules()]
    with pytest.raises(NotImplementedError, match=message):
        swap_attention(model)
    assert [type(module) for module in model.modules()] == before


def test_refuses_masks():
    model = swap_attention(eva(), landmarks=3)
    for options in ({"attn_mask": torch.ones(65, 65, dtype=torch.bool)}, {"is_causal": True}):
        with pytest.raises(NotImplementedError, match="attn_mask must be None and is_causal False"):
            model(images(), **options)

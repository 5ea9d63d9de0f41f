"""The ViT that is to be linearized: where it is found, what is refused, and why."""

import json
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from crosshead.tasks.linearize import teacher as teachers
from crosshead.tasks.linearize.recipe import LinearizeRecipe
from crosshead.tasks.linearize.teacher import (
    build_student,
    describe,
    find_teacher,
    in_chans,
    require_finite,
    timm_config,
)
from crosshead.tasks.task import DataError


def recipe(model: object, **changes) -> LinearizeRecipe:
    return LinearizeRecipe(model=str(model), epochs=1, landmarks=(2, 2), **changes)


@pytest.mark.parametrize("place", ["folder", "local-dir", "run"])
def test_a_folder_and_a_run_hold_a_teacher(write_vit, tmp_path, place):
    folder = write_vit(tmp_path / "run" / "model", num_classes=5)
    name = {"folder": folder, "local-dir": f"local-dir:{folder}", "run": tmp_path / "run"}[place]
    found = find_teacher(recipe(name))
    model = found.build(pretrained=True)
    state, saved = model.state_dict(), load_file(folder / "model.safetensors")
    assert state.keys() == saved.keys()
    assert all(torch.equal(state[key], saved[key]) for key in saved)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not model.training
    assert model.dynamic_img_size
    assert model.forward_features(torch.zeros(1, 3, 24, 8)).shape == (1, 13, 24)


def test_a_name_of_timm_is_known_without_its_weights():
    found = find_teacher(recipe("vit_tiny_patch16_224.augreg_in21k", model_args={"depth": 1}))
    assert found.architecture == "vit_tiny_patch16_224"
    model = describe(found)
    assert next(model.parameters()).is_meta
    assert len(list(model.blocks.children())) == 1
    assert timm_config(model)["mean"] == (0.5, 0.5, 0.5)


def test_channels_are_those_of_the_patches(write_vit, tmp_path):
    folder = write_vit(tmp_path / "grey", in_chans=1)
    assert in_chans(describe(find_teacher(recipe(folder)))) == 1


def test_the_student_has_the_teachers_weights(vit):
    student = build_student(recipe(vit, keep=(-1,)), find_teacher(recipe(vit)).build(pretrained=True))
    state = student.state_dict()
    for name, tensor in load_file(vit / "model.safetensors").items():
        assert torch.equal(state[name], tensor), name
    kinds = [type(block.attn).__name__ for block in student.blocks]
    assert kinds == ["InteractiveAttentionOnGrid", "InteractiveAttentionOnGrid", "AttentionOnGrid"]
    first: Any = student.blocks[0].attn
    assert first.landmarks == (2, 2)


@pytest.mark.parametrize(
    "name",
    [
        *("resnet18", "mixer_s32_224", "swin_tiny_patch4_window7_224"),
        *("cait_xxs24_224", "hiera_tiny_224", "vit_relpos_small_patch16_224"),
    ],
)
def test_a_model_without_softmax_attention_over_all_tokens_is_refused(name):
    with pytest.raises((ValueError, NotImplementedError), match="model must be a timm VisionTransformer"):
        describe(find_teacher(recipe(name)))


def test_an_unknown_name_and_unfit_arguments_are_refused():
    with pytest.raises(ValueError, match="did you mean vit_tiny_patch16_224"):
        find_teacher(recipe("vit_tiny_patch16_242"))
    with pytest.raises(ValueError, match=r"cannot be built.*'width'"):
        describe(find_teacher(recipe("vit_tiny_patch16_224", model_args={"width": 3})))


def test_what_is_linear_already_is_refused(vit, tmp_path):
    for change in ({"architecture": "linearized_vit"}, {"crosshead": {"swap_landmarks": [2, 2]}}):
        config = json.loads((vit / "config.json").read_text()) | change
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(ValueError, match="linear already"):
            find_teacher(recipe(tmp_path))


@pytest.mark.parametrize("content", [None, "{", "[]", "{}", '{"architecture": "vit_huge"}'])
def test_a_folder_that_holds_no_model_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"vit_huge is unknown|is no configuration of a timm model"):
        find_teacher(recipe(tmp_path))


def test_weights_of_another_architecture_are_refused(write_vit, tmp_path):
    folder = write_vit(tmp_path / "vit")
    config = json.loads((folder / "config.json").read_text())
    config["model_args"]["embed_dim"] = 48
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="size mismatch"):
        find_teacher(recipe(folder)).build(pretrained=True)


def test_without_a_network_weights_of_a_hub_are_asked_for_in_one_line(monkeypatch):
    def offline(*_, **__):
        raise ConnectionError("no route to host\nand a traceback")

    monkeypatch.setattr(teachers.timm, "create_model", offline)
    with pytest.raises(ValueError, match=r"cannot be fetched \(no route to host\): connect to the network"):
        find_teacher(recipe("vit_tiny_patch16_224")).build(pretrained=True)


def test_a_teacher_must_give_numbers(write_vit, tmp_path):
    folder = write_vit(tmp_path / "vit")
    state = load_file(folder / "model.safetensors")
    state["blocks.1.mlp.fc1.bias"][0] = torch.nan
    save_file(state, folder / "model.safetensors")
    with pytest.raises(DataError, match="no finite tokens"):
        require_finite(find_teacher(recipe(folder)).build(pretrained=True), 16)


def test_a_vit_of_batches_of_many_grids_is_refused():
    with pytest.raises(ValueError, match=r"naflexvit_base_patch16_gap (is a NaFlexVit|.* cannot be built)"):
        describe(find_teacher(recipe("naflexvit_base_patch16_gap")))

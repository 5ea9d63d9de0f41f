import dataclasses
import json
import re
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from crosshead.runs.folder import RunError
from crosshead.runs.load import backbone_name, load_run, read_weights, start_from
from crosshead.runs.record import read_record
from crosshead.tasks.classify.net import build_model
from crosshead.tasks.task import task_of


def test_a_run_comes_back_with_its_weights_ready_to_be_used(trained):
    record, model = load_run(trained)
    assert record.name == "digits"
    assert not model.training
    weights = read_weights(trained.path)
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())


def test_a_run_that_began_with_published_weights_is_read_without_them(copied):
    content = json.loads(copied.recipe.read_text())
    content["recipe"]["pretrained"] = True
    copied.recipe.write_text(json.dumps(content))
    assert load_run(copied)[0].recipe.pretrained


def test_the_best_epoch_can_be_asked_for(trained):
    _, best = load_run(trained, best=True)
    saved = torch.load(trained.best, weights_only=True)["state_dict"]
    assert all(torch.equal(saved[f"model.{name}"], tensor) for name, tensor in best.state_dict().items())


def test_weights_are_found_by_run_by_model_folder_and_by_file(trained):
    by_run, by_folder, by_file = (
        read_weights(path) for path in (trained.path, trained.model, trained.weights)
    )
    assert by_run.keys() == by_folder.keys() == by_file.keys()


def test_a_run_without_weights_says_how_to_get_some(copied):
    copied.weights.unlink()
    with pytest.raises(RunError, match="has no weights yet: let it finish an epoch by `crosshead resume"):
        load_run(copied)


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(RunError, match="holds no weights: name a run folder"):
        read_weights(tmp_path)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x00" * 100])
def test_damaged_weights_are_refused_in_one_line(copied, content):
    copied.weights.write_bytes(content)
    with pytest.raises(RunError, match=r"^[^\n]*model.safetensors is damaged[^\n]*$"):
        load_run(copied)


def test_truncated_weights_are_refused(copied):
    copied.weights.write_bytes(copied.weights.read_bytes()[:-10])
    with pytest.raises(RunError, match=r"model.safetensors is damaged"):
        load_run(copied)


def test_weights_of_another_architecture_are_refused(copied):
    content = json.loads(copied.recipe.read_text())
    content["recipe"]["model_args"]["dims"] = [8, 16, 16, 24]
    copied.recipe.write_text(json.dumps(content))
    with pytest.raises(RunError, match=r"another architecture than ivit_nano: .* there and .* in the model"):
        load_run(copied)


def test_a_start_takes_what_fits_and_says_what_did_not(trained):
    record: Any = read_record(trained)
    images = dataclasses.replace(record.meta, classes=("a", "b", "c"))
    model = build_model(record.recipe, images)
    fresh = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    report = start_from(model, trained.path)
    weights = read_weights(trained.path)
    assert {line.partition(":")[0] for line in report.reshaped} == {"head.fc.weight", "head.fc.bias"}
    assert report.missing == report.unexpected == ()
    assert set(report.matched) == weights.keys() - {"head.fc.weight", "head.fc.bias"}
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, weights[name] if name in report.matched else fresh[name])
    assert report.lines()[0] == f"started from {trained.path}: {len(report.matched)} tensors matched"
    assert "2 of another shape, initialised afresh: head.fc.bias" in report.lines()[1]


def test_a_start_into_a_swapped_vit_keeps_its_projections(tiny, trained, tmp_path):
    meta: Any = read_record(trained).meta
    arguments = {"patch_size": 2, "embed_dim": 16, "depth": 1, "num_heads": 2}
    vit = dataclasses.replace(tiny, model="vit_tiny_patch16_224", model_args=arguments)
    save_file(build_model(vit, meta).state_dict(), tmp_path / "vit.safetensors")
    swapped = build_model(dataclasses.replace(vit, swap_landmarks=(2, 2)), meta)
    report = start_from(swapped, tmp_path / "vit.safetensors")
    assert "blocks.0.attn.qkv.weight" in report.matched
    assert report.missing
    assert all("mixing" in name for name in report.missing)
    assert report.unexpected == report.reshaped == ()


def test_a_start_without_anything_in_common_is_refused(trained):
    with pytest.raises(RunError, match="shares no tensor with the model"):
        start_from(torch.nn.Linear(3, 3), trained.path)


def grey_net(dense_recipe, name):
    """A net around a backbone that takes images of one band, as the classifier of digits does."""
    recipe = dense_recipe(name)
    task = task_of(recipe.task)
    meta = task.data(recipe).meta
    pairs = {"after_mean": (0.5,), "after_std": (0.5,), "bands": ("1",)} if name == "change" else {}
    return task.build(recipe, dataclasses.replace(meta, in_chans=1, mean=(0.5,), std=(0.5,), **pairs))


def backbone(model) -> dict[str, torch.Tensor]:
    """The tensors of a backbone by the names that they have in a classifier."""
    state = model.state_dict()
    prefixes = ("net.encoder.model.", "encoder.model.", "backbone.body.", "backbone.")
    found = {}
    for name, tensor in state.items():
        prefix = next((prefix for prefix in prefixes if name.startswith(prefix)), None)
        if prefix is not None and not name.startswith("backbone.fpn."):
            found[re.sub(r"^stages_(\d)", r"stages.\1", name.removeprefix(prefix))] = tensor
    return found


DENSE = ("segment", "boxes", "masks", "retinanet", "change")


@pytest.mark.parametrize("name", DENSE)
def test_the_backbone_of_a_classifier_is_taken_over_by_a_net_of_every_task(dense_recipe, trained, name):
    model, weights = grey_net(dense_recipe, name), read_weights(trained.path)
    before = {each: tensor.clone() for each, tensor in model.state_dict().items()}
    report = start_from(model, trained.path)
    taken = backbone(model)
    assert len(taken) > 50
    assert set(report.matched) == taken.keys()
    assert report.reshaped == ()
    assert all(torch.equal(tensor, weights[each]) for each, tensor in taken.items())
    assert set(report.unexpected) == weights.keys() - taken.keys()
    assert all(each.startswith(("norm.", "head.")) for each in report.unexpected)
    assert len(report.missing) == len(before) - len(taken)
    heads = {each for each in before if each in report.missing}
    assert heads
    assert all(torch.equal(before[each], model.state_dict()[each]) for each in heads)


@pytest.mark.parametrize("name", DENSE)
def test_the_backbone_of_every_task_is_taken_over_by_a_classifier(dense_recipe, trained, tmp_path, name):
    source = grey_net(dense_recipe, name)
    save_file(source.state_dict(), tmp_path / "dense.safetensors")
    _, model = load_run(trained)
    report = start_from(model, tmp_path / "dense.safetensors")
    given = backbone(source)
    assert set(report.matched) == given.keys()
    assert all(torch.equal(model.state_dict()[each], tensor) for each, tensor in given.items())
    assert all(each.startswith(("norm.", "head.")) for each in report.missing)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("segment", "masks"),
        ("masks", "segment"),
        ("boxes", "change"),
        ("change", "segment"),
        ("boxes", "masks"),
    ],
)
def test_a_backbone_goes_from_one_dense_task_to_another(dense_recipe, tmp_path, source, target):
    giver, taker = grey_net(dense_recipe, source), grey_net(dense_recipe, target)
    save_file(giver.state_dict(), tmp_path / "dense.safetensors")
    report = start_from(taker, tmp_path / "dense.safetensors")
    given, taken = backbone(giver), backbone(taker)
    assert given.keys() == taken.keys() <= set(report.matched)
    assert all(torch.equal(taken[each], tensor) for each, tensor in given.items())
    if (source, target) == ("boxes", "masks"):
        # The heads for boxes go along.
        assert "roi_heads.box_predictor.cls_score.weight" in report.matched
        assert "rpn.head.cls_logits.weight" in report.matched


def test_a_detector_of_three_maps_gives_its_backbone_too(dense_recipe, tmp_path):
    giver, taker = grey_net(dense_recipe, "retinanet"), grey_net(dense_recipe, "boxes")
    save_file(giver.state_dict(), tmp_path / "dense.safetensors")
    report = start_from(taker, tmp_path / "dense.safetensors")
    assert backbone(taker).keys() <= set(report.matched)


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("net.encoder.model.stages_0.blocks.1.norm.weight", "stages.0.blocks.1.norm.weight"),
        ("encoder.model.layer1.0.conv1.weight", "layer1.0.conv1.weight"),
        ("backbone.body.stem.conv1.weight", "stem.conv1.weight"),
        ("backbone.layer_1.weight", "layer.1.weight"),
        ("backbone.stages.0.norm.weight", "stages.0.norm.weight"),
        ("backbone.body.stages_12.downsample.norm_2.weight", "stages.12.downsample.norm_2.weight"),
        ("stages_0.weight", "stages_0.weight"),
        ("roi_heads.backbone.weight", "roi_heads.backbone.weight"),
    ],
)
def test_a_tensor_of_a_backbone_has_the_name_of_a_classifier(name, plain):
    assert backbone_name(name) == plain

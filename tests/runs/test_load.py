import dataclasses
import json

import pytest
import torch

from crosshead.runs.folder import RunError
from crosshead.runs.load import load_run, read_weights, start_from
from crosshead.runs.classify.model import build_model
from crosshead.runs.record import read_record


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
    record = read_record(trained)
    images = dataclasses.replace(record.facts, classes=("a", "b", "c"))
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
    from safetensors.torch import save_file

    facts = read_record(trained).facts
    arguments = {"patch_size": 2, "embed_dim": 16, "depth": 1, "num_heads": 2}
    vit = dataclasses.replace(tiny, model="vit_tiny_patch16_224", model_args=arguments)
    save_file(build_model(vit, facts).state_dict(), tmp_path / "vit.safetensors")
    swapped = build_model(dataclasses.replace(vit, swap_landmarks=(2, 2)), facts)
    report = start_from(swapped, tmp_path / "vit.safetensors")
    assert "blocks.0.attn.qkv.weight" in report.matched
    assert report.missing
    assert all("mixing" in name for name in report.missing)
    assert report.unexpected == report.reshaped == ()


def test_a_start_without_anything_in_common_is_refused(trained):
    with pytest.raises(RunError, match="shares no tensor with the model"):
        start_from(torch.nn.Linear(3, 3), trained.path)

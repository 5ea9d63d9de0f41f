import dataclasses

import pytest
import timm
import torch

from crosshead.runs.folder import RunError
from crosshead.runs.load import load_run
from crosshead.tasks.classify.net import build_model, model_arguments
from crosshead.tasks.classify.data import ClassifyMeta

GREY = ClassifyMeta(classes=tuple("abc"), in_chans=1, image_size=16, mean=(0.5,), std=(0.25,))
VIT = {"patch_size": 4, "embed_dim": 16, "depth": 1, "num_heads": 2}


def test_timm_reads_the_model_folder_of_a_run(trained):
    theirs = timm.create_model(f"local-dir:{trained.model}", pretrained=True).eval()
    record, ours = load_run(trained)
    images = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(theirs(images), ours(images), rtol=0, atol=0)
    config = vars(theirs)["pretrained_cfg"]
    assert config["label_names"] == list(record.meta.classes)
    assert config["mean"] == list(record.meta.mean)
    assert tuple(config["input_size"]) == (1, 8, 8)


def test_timm_can_put_another_classifier_on_the_model_of_a_run(trained):
    model = timm.create_model(f"local-dir:{trained.model}", pretrained=True, num_classes=4)
    assert model(torch.randn(1, 1, 8, 8)).shape == (1, 4)


def test_the_image_size_reaches_models_that_depend_on_it(tiny):
    vit = dataclasses.replace(tiny, model="vit_tiny_patch16_224", model_args=VIT)
    assert model_arguments(vit, GREY) == {"img_size": 16, **VIT}
    assert build_model(vit, GREY)(torch.randn(2, 1, 16, 16)).shape == (2, 3)
    assert "img_size" not in model_arguments(tiny, GREY)


def test_the_attention_of_a_vit_is_exchanged(tiny):
    recipe = dataclasses.replace(tiny, model="vit_tiny_patch16_224", model_args=VIT, swap_landmarks=(2, 2))
    model = build_model(recipe, GREY)
    assert model(torch.randn(2, 1, 16, 16)).shape == (2, 3)
    assert any("mixing" in name for name in model.state_dict())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "ivit_nanno"}, "ivit_nanno is unknown: did you mean ivit_nano"),
        ({"model": "zzzzzzzz"}, "zzzzzzzz is unknown: see `crosshead models`"),
        ({"model_args": {"wings": 2}}, "cannot be built.*wings"),
        ({"model_args": {"depths": (1, 2)}}, "cannot be built"),
        ({"swap_landmarks": (2, 2)}, "cannot be built.*VisionTransformer"),
    ],
)
def test_a_model_that_cannot_be_built_is_refused_in_one_line(tiny, changes, message):
    with pytest.raises(RunError, match=rf"^[^\n]*{message}[^\n]*$"):
        build_model(dataclasses.replace(tiny, **changes), GREY)

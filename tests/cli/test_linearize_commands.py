"""A trained ViT is linearized, measured, looked at, and trained on with labels, from the command line."""

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root, generator = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for split in ("train", "test"):
        for kind in ("a", "b"):
            (root / split / kind).mkdir(parents=True)
            for number in range(8):
                pixels = generator.integers(0, 255, (5, 6, 3)).astype(np.uint8)
                Image.fromarray(pixels).resize((30, 24)).save(root / split / kind / f"{number}.png")
    return root


FLAGS = ("--epochs", "2", "--batch-size", "8", "--threads", "1", "--accelerator", "cpu", "--workers", "0")


def test_from_a_teacher_to_a_classifier(crosshead, photos, vit, tmp_path):
    answer = crosshead(
        *("train", "linearize", "--data-dir", photos, "--model", vit, *FLAGS),
        *("--attention-epochs", "1", "--crops", "16", "--landmarks", "2", "2", "--keep", "-1"),
    )
    assert answer.code == 0, answer.err
    assert answer.err == ""
    assert "epochs: 1 all attention, 3 one block each, 2 the whole net" in answer.out
    assert "epoch 6/6" in answer.out
    assert "validation centered cosine" in answer.out
    assert "next: crosshead evaluate runs/linearize-1" in answer.out

    answer = crosshead("evaluate", "runs/linearize-1", "--accelerator", "cpu")
    assert answer.code == 0, answer.err
    for word in (
        "teacher",
        "swapped",
        "linearized",
        "cosine without the image's mean at 16 px",
        "milliseconds",
    ):
        assert word in answer.out
    assert (tmp_path / "runs" / "linearize-1" / "tokens.png").exists()

    photo = photos / "test" / "a" / "1.png"
    answer = crosshead("predict", "runs/linearize-1", photo, "--size", "24")
    assert answer.code == 0, answer.err
    assert "cosine 0." in answer.out
    assert (tmp_path / "runs" / "linearize-1" / "predictions" / "1.png").exists()

    answer = crosshead(
        *(
            "train",
            "classify",
            "--data-dir",
            photos,
            "--from",
            "runs/linearize-1",
            "--image-size",
            "16",
            *FLAGS,
        )
    )
    assert answer.code == 0, answer.err
    assert "2 missing there, initialised afresh: head.bias, head.weight" in answer.out
    answer = crosshead("predict", "runs/classify-1", photo)
    assert answer.code == 0, answer.err


def test_what_is_asked_of_the_wrong_task_is_refused(crosshead, trained, digit):
    answer = crosshead("predict", trained, digit, "--size", "64")
    assert answer.code == 1
    assert "--size has no meaning for classify" in answer.err


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("resnet18", "model must be a timm VisionTransformer"),
        ("nowhere/model", "nowhere/model: no such folder"),
        ("vit_relpos_small_patch16_224", "adds relative positions"),
    ],
)
def test_a_teacher_that_cannot_be_linearized_is_refused_in_one_line(
    crosshead, photos, tmp_path, model, words
):
    answer = crosshead("train", "linearize", "--data-dir", photos, "--model", model)
    assert answer.code == 1
    assert words in answer.err
    assert answer.err.count("\n") == 1
    assert not (tmp_path / "runs").exists()

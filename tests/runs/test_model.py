import timm
import torch

from crosshead.runs.load import load_run


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

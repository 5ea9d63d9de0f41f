"""Heads are shown while they learn, and the training is what it would have been."""

import dataclasses

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from crosshead.explain.training import ShowHeads
from crosshead.runs import engine
from crosshead.runs.folder import RunFolder
from crosshead.runs.load import read_weights

LAYERS = ["net.encoder.model.stages_1.blocks.0.attn", "net.encoder.model.stages_2.blocks.0.attn"]


@pytest.fixture(scope="module")
def runs(dense_recipe, tmp_path_factory):
    root, recipe = tmp_path_factory.mktemp("heads"), dense_recipe("segment", epochs=3)
    found = {}
    for name, callbacks in (("shown", [ShowHeads(2)]), ("plain", [])):
        found[name] = RunFolder(root / name)
        engine.train("segment", recipe, found[name], callbacks=callbacks)
    return found


def test_pictures_and_curves_of_each_layer(runs):
    events = EventAccumulator(str(runs["shown"].path / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    for layer in LAYERS:
        # Two steps an epoch: after the second epoch, and after the last.
        assert [event.step for event in events.Images(f"heads/{layer}")] == [4, 6]
        for kind in ("diversity", "diversity_without_talking", "share_through_others"):
            values = [event.value for event in events.Scalars(f"heads_{kind}/{layer}")]
            assert len(values) == 2
            assert all(0 < value < 1 for value in values)


def test_training_is_what_it_would_have_been(runs):
    shown, plain = (read_weights(runs[name].path) for name in ("shown", "plain"))
    assert all(torch.equal(values, plain[name]) for name, values in shown.items())


def test_a_net_without_heads_that_talk_is_refused_at_once(dense_recipe, tmp_path):
    recipe = dataclasses.replace(dense_recipe("segment"), model="test_resnet", model_args={})
    run = RunFolder(tmp_path / "run")
    with pytest.raises(ValueError, match="model must hold InteractiveAttention"):
        engine.train("segment", recipe, run, callbacks=[ShowHeads(1)])
    assert not run.path.exists()

"""How nets are called outside, as each task says it."""

import dataclasses
import json

import pytest
from pydantic import ValidationError
from torch import nn

from crosshead.tasks.interface import Interface, NetInput, Objects
from crosshead.tasks.task import Meta, Task, task_of

META = Meta(classes=("cat",), in_chans=2, mean=(0.5, 0.4), std=(0.2, 0.1))
NET = Interface(
    inputs=(NetInput.of_images(META),),
    output="logits",
    axes=("batch", "class"),
    method="forward",
    trained=(8, 12),
)


def test_images_are_called_as_files_hold_them():
    assert NetInput.of_images(META) == NetInput(
        name="images", channels=2, scale=255.0, mean=(0.5, 0.4), std=(0.2, 0.1)
    )


@pytest.mark.parametrize(
    ("changes", "takes", "refuses"),
    [
        ({}, [(1, 2, 8, 12), (7, 2, 1, 3)], [(1, 3, 8, 12), (2, 8, 12)]),
        ({"multiple": (4, 1)}, [(1, 2, 8, 13)], [(1, 2, 10, 12)]),
        ({"fixed": True}, [(3, 2, 8, 12)], [(3, 2, 12, 8)]),
    ],
)
def test_shapes_that_a_net_does_not_take_have_a_reason(changes, takes, refuses):
    net = dataclasses.replace(NET, **changes)
    assert [net.refusal(shape) for shape in takes] == [None] * len(takes)
    for shape in refuses:
        assert str(shape) in str(net.refusal(shape))


def test_a_net_that_finds_objects_takes_one_image_and_a_number():
    net = dataclasses.replace(NET, output="boxes", objects=Objects(min_score=0.1, longer_side=20))
    assert net.input_names == ["images", "min_score"]
    assert net.output_names == ["boxes", "labels", "scores"]
    assert net.refusal((1, 2, 5, 6)) is None
    assert net.refusal((2, 2, 5, 6)) == "images must be (1, 2, height, width); got (2, 2, 5, 6)"
    masks = dataclasses.replace(net, objects=Objects(min_score=0.1, longer_side=20, mask_side=28))
    assert masks.output_names == ["boxes", "labels", "scores", "masks"]
    assert Interface.of_json(json.dumps(masks.as_json())) == masks
    assert (NET.input_names, NET.output_names) == (["images"], ["logits"])


def test_an_interface_from_before_there_were_objects_is_read():
    content = NET.as_json()
    del content["objects"]
    assert Interface.of_json(json.dumps(content)) == NET


def test_an_interface_is_read_back_and_nothing_else_is():
    content = json.loads(json.dumps(NET.as_json()))
    assert Interface.of_json(json.dumps(content)) == NET
    for damage in ({"axes": "batch"}, {"fixed": 1}, {"trained": [8]}):
        with pytest.raises(ValidationError):
            Interface.of_json(json.dumps({**content, **damage}))


@pytest.mark.parametrize(
    ("name", "inputs", "output"),
    [("segment", ["images"], "scores"), ("change", ["before", "after"], "scores")],
)
def test_a_task_says_how_its_nets_are_called(name, inputs, output, dense_recipe):
    recipe = dense_recipe(name)
    meta = task_of(name).data(recipe).meta
    net = task_of(name).interface(recipe, meta, nn.Identity())
    assert ([given.name for given in net.inputs], net.output) == (inputs, output)
    assert [given.channels for given in net.inputs] == [meta.in_chans] * len(inputs)
    assert net.inputs[0].mean == meta.mean
    if name == "change":
        assert net.inputs[1].mean == meta.after_mean


def test_a_task_that_does_not_say_has_no_exported_form(dense_recipe):
    recipe = dense_recipe("segment")
    with pytest.raises(ValueError, match="nets of the task segment have no exported form: use the run"):
        Task.interface(task_of("segment"), recipe, META, nn.Identity())

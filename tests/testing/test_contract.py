"""The contract for backbones finds what it is there to find: its tests fail on broken backbones."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import crosshead.vision  # noqa: F401  registers the models
from crosshead.testing.contract import BackboneContract

SMALL = {"depths": (1, 1, 1, 1), "dims": (8, 16, 32, 64), "landmarks": 2}


def broken(sabotage: Callable[[Any], object]) -> BackboneContract:
    class Broken(BackboneContract):
        model_name = "ivit_nano"
        options = SMALL

        def create(self, **options):
            model = super().create(**options)
            sabotage(model)
            return model

    return Broken()


def lie_about_reductions(model):
    for info in getattr(model.feature_info, "info", model.feature_info):
        info["reduction"] *= 2


def add_an_idle_parameter(model):
    model.idle = nn.Parameter(torch.zeros(1))


def normalise_over_the_batch(model):
    model.register_forward_hook(lambda module, args, output: output - output.mean(0))


def return_other_maps(model):
    if hasattr(model, "forward_intermediates"):
        model.stages[1].register_forward_hook(lambda module, args, output: 2 * output)


def forget_the_dtype(model):
    if hasattr(model, "reset_classifier"):
        model.reset_classifier = lambda n, pool=None: setattr(model.head, "fc", nn.Linear(64, n))


def ignore_checkpointing(model):
    model.set_grad_checkpointing = lambda enable=True: None


def hide_state(model):
    model.register_buffer("hidden", torch.zeros(1, device="cpu"))


def grow_with_the_image(model):
    def grow(module, args):
        module.register_buffer("positions", torch.zeros(args[0].shape[-1]))

    model.register_forward_pre_hook(grow)


def group_twice(model):
    model.group_matcher = lambda coarse=False: {
        "stem": r"^stem",
        "blocks": [(r"^s", (0,)), (r"^stages", (1,))],
    }


def group_backwards(model):
    model.group_matcher = lambda coarse=False: {"blocks": r"^stages", "stem": r"^stem"}


def misspell_what_is_not_decayed(model):
    model.no_weight_decay = lambda: {"stem.conv1.weigth"}


@pytest.mark.parametrize(
    ("test", "arguments", "sabotage"),
    [
        ("test_maps_images_of_any_size_at_the_reductions_it_states", (64, 96), lie_about_reductions),
        ("test_gives_every_parameter_a_finite_gradient", (32, 32), add_an_idle_parameter),
        ("test_gives_a_sample_what_it_gives_it_alone", (), normalise_over_the_batch),
        ("test_returns_the_same_maps_by_each_road", (), return_other_maps),
        ("test_resets_its_classifier", (), forget_the_dtype),
        ("test_computes_the_same_with_gradient_checkpointing", (), ignore_checkpointing),
        ("test_is_built_on_the_meta_device", (), hide_state),
        ("test_holds_nothing_that_depends_on_the_image_size", (), grow_with_the_image),
        ("test_sorts_each_parameter_into_one_group", (False,), group_twice),
        ("test_sorts_each_parameter_into_one_group", (False,), group_backwards),
        ("test_takes_learning_rates_by_layer", (), misspell_what_is_not_decayed),
    ],
)
def test_a_broken_backbone_fails(test, arguments, sabotage):
    getattr(broken(lambda model: None), test)(*arguments)
    with pytest.raises((AssertionError, KeyError, RuntimeError)):
        getattr(broken(sabotage), test)(*arguments)

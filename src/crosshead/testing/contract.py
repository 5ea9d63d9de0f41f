"""What a vision backbone registered with timm promises to timm and to the libraries that build on it.

A new model is tested by a subclass of a few lines:

    class TestMyBackbone(BackboneContract):
        model_name = "my_backbone"
        options = {"depths": (1, 1, 1, 1)}
"""

import math
import re
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import pytest
import timm
import torch
from timm.models import group_parameters, save_for_hf
from timm.optim import param_groups_layer_decay
from torch import Tensor
from torch.testing import assert_close

from crosshead.testing.consumers import ConsumerContract


class BackboneContract(ConsumerContract):
    """Contract tests of a hierarchical backbone; pytest collects them from subclasses named `Test...`.

    Attributes:
        model_name: timm's name of the model.
        options: constructor arguments, for a smaller model or another variant.
    """

    model_name: ClassVar[str]
    options: ClassVar[dict[str, Any]] = {}

    def create(self, **options) -> Any:
        """The model in eval mode, with the same weights at every call."""
        torch.manual_seed(0)
        return timm.create_model(self.model_name, **{**self.options, **options}).eval()

    def images(self, height: int, width: int, *, batch: int = 2, channels: int = 3) -> Tensor:
        """The same random images at every call."""
        generator = torch.Generator().manual_seed(1)
        return torch.randn(batch, channels, height, width, generator=generator)

    @pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 96), (257, 131), (1024, 1024)])
    def test_maps_images_of_any_size_at_the_reductions_it_states(self, height, width):
        """Odd, non-square and huge images pass, and one with a single token in the last stage."""
        model = self.create(features_only=True)
        with torch.no_grad():
            maps = model(self.images(height, width, batch=1))
        for features, channels, reduction in self._with_info(maps, model.feature_info):
            assert features.shape[:2] == (1, channels)
            for axis, pixels in zip(features.shape[2:], (height, width), strict=True):
                assert axis in (pixels // reduction, math.ceil(pixels / reduction))
            assert features.isfinite().all()

    @pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 96)])
    def test_gives_every_parameter_a_finite_gradient(self, height, width):
        """Also where softmax has a single token to choose from."""
        model = self.create().train()
        model(self.images(height, width)).square().mean().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name

    def test_gives_a_sample_what_it_gives_it_alone(self):
        """In eval mode no sample of a batch influences another."""
        model, images = self.create(), self.images(64, 96)
        with torch.no_grad():
            together = model(images)
            alone = torch.cat([model(image[None]) for image in images])
        assert_close(together, alone)

    def test_returns_the_same_maps_by_each_road(self):
        """`features_only`, `forward_intermediates` in all its forms, and a pruned model agree."""
        model, images = self.create(), self.images(64, 96)
        last = len(model.feature_info) - 1
        with torch.no_grad():
            expected = self.create(features_only=True)(images)
            final, maps = model.forward_intermediates(images)
            assert_close(maps, list(expected))
            assert_close(final, model.forward_features(images))
            assert_close(model.forward_intermediates(images, norm=True)[1], [*maps[:-1], final])
            assert_close(model.forward_intermediates(images, 1, intermediates_only=True), maps[-1:])
            some = model.forward_intermediates(images, [0, -1], intermediates_only=True)
            assert_close(some, [maps[0], maps[last]])
            early, (first,) = model.forward_intermediates(images, [0], stop_early=True)
            assert_close(early, maps[0])
            assert_close(first, maps[0])
            chosen = self.create(features_only=True, out_indices=(1, 2))
            assert chosen.feature_info.channels() == [maps[1].shape[1], maps[2].shape[1]]
            assert_close(list(chosen(images)), maps[1:3])
            assert model.prune_intermediate_layers([0, 1], prune_norm=True) == [0, 1]
            assert_close(model.forward_intermediates(images, [0, 1], intermediates_only=True), maps[:2])
            assert_close(model(images), maps[1])
            assert model.num_features == maps[1].shape[1]

    def test_rejects_a_layout_it_does_not_have(self):
        """timm's other output format is for models of token sequences."""
        with pytest.raises((ValueError, AssertionError)):
            self.create().forward_intermediates(self.images(32, 32), output_fmt="NLC")

    def test_resets_its_classifier(self):
        """Another number of classes, none, and no pooling; mode and dtype stay."""
        model, images = self.create(num_classes=7, dtype=torch.float64), self.images(64, 96).double()
        assert model.get_classifier().out_features == model.num_classes == 7
        features = model.forward_features(images)
        pooled = model.forward_head(features, pre_logits=True)
        assert pooled.shape == (2, model.head_hidden_size)
        assert_close(model.get_classifier()(pooled), model(images))
        model.reset_classifier(5)
        assert model(images).shape == (2, 5)
        assert not model.head.training
        assert model.get_classifier().weight.dtype == torch.float64
        model.reset_classifier(0)
        assert_close(model(images), pooled)
        model.reset_classifier(0, "")
        assert_close(model(images), features)

    def test_computes_the_same_with_gradient_checkpointing(self):
        """Output and every gradient, from less memory."""
        plain, checkpointed, images = self.create(), self.create(), self.images(64, 96)
        checkpointed.set_grad_checkpointing(True)
        kept = [self._backward_counting_saved_elements(model, images) for model in (plain, checkpointed)]
        assert kept[1] < kept[0] / 2
        for (name, expected), actual in zip(plain.named_parameters(), checkpointed.parameters(), strict=True):
            assert_close(actual.grad, expected.grad, msg=lambda text, name=name: f"{name}: {text}")

    def test_is_built_on_the_meta_device(self):
        """Without memory, and with nothing that a state dict would not bring back."""
        with torch.device("meta"):
            model = self.create()
        assert {tensor.device.type for tensor in [*model.parameters(), *model.buffers()]} == {"meta"}
        reference, images = self.create(), self.images(64, 96)
        model.to_empty(device="cpu").load_state_dict(reference.state_dict())
        with torch.no_grad():
            assert_close(model(images), reference(images))

    def test_holds_nothing_that_depends_on_the_image_size(self):
        """The state is the same before and after images of several sizes."""
        model = self.create()
        before = {name: tensor.shape for name, tensor in model.state_dict().items()}
        for size in (32, 96):
            model(self.images(size, size, batch=1))
        assert {name: tensor.shape for name, tensor in model.state_dict().items()} == before

    @pytest.mark.parametrize("coarse", [False, True])
    def test_sorts_each_parameter_into_one_group(self, coarse):
        """At most one pattern fits a name, and groups follow the data through the model."""
        model = self.create()
        matcher = model.group_matcher(coarse=coarse)
        patterns = [
            pattern
            for entry in matcher.values()
            for pattern in ([entry] if isinstance(entry, str) else [pair[0] for pair in entry])
        ]
        for name, _ in model.named_parameters():
            assert sum(bool(re.match(pattern, name)) for pattern in patterns) <= 1, name
        layer: Any = group_parameters(model, matcher, reverse=True)
        assert set(layer) == {name for name, _ in model.named_parameters()}
        assert all(layer[a] <= layer[b] for a, b in pairwise(layer_order(model)))
        unmatched = {name for name in layer if not any(re.match(pattern, name) for pattern in patterns)}
        assert all(layer[name] == max(layer.values()) for name in unmatched)

    def test_takes_learning_rates_by_layer(self):
        """The stem learns slowest, the classifier fastest, and nothing is left out or decayed wrongly."""
        model = self.create()
        spared = model.no_weight_decay()
        groups = param_groups_layer_decay(model, 0.05, no_weight_decay_list=spared, layer_decay=0.5)
        scale = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
        decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
        named = dict(model.named_parameters())
        assert sum(len(group["params"]) for group in groups) == len(named)
        assert {name for name in spared if decay[id(named[name])] == 0} == set(spared)
        order = layer_order(model)
        assert scale[id(named[order[0]])] == min(scale.values())
        assert scale[id(model.get_classifier().weight)] == max(scale.values()) == 1

    def test_comes_back_from_a_folder(self, tmp_path: Path):
        """Safetensors and a config, as timm's `local-dir:` reads them, for other images and classes too."""
        model, images = self.create(num_classes=3), self.images(64, 96)
        save_for_hf(model, str(tmp_path), model_args={**self.options}, safe_serialization=True)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
        again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
        with torch.no_grad():
            assert_close(again(images), model(images), rtol=0, atol=0)
        grey: Any = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, in_chans=1, num_classes=4)
        weights = [m.get_submodule(m.pretrained_cfg["first_conv"]).weight for m in (model, grey)]
        assert_close(weights[1], weights[0].sum(1, keepdim=True))
        assert grey(self.images(64, 96, channels=1)).shape == (2, 4)

    def test_states_no_weights_that_do_not_exist(self):
        """An untrained model says so, and asking for weights is an error."""
        cfg = self.create().pretrained_cfg
        if cfg["tag"] != "untrained":
            pytest.skip(f"{self.model_name} has weights")
        assert not cfg["url"]
        with pytest.raises(RuntimeError, match="No pretrained weights"):
            self.create(pretrained=True)

    @staticmethod
    def _with_info(maps, info):
        return zip(maps, info.channels(), info.reduction(), strict=True)

    @staticmethod
    def _backward_counting_saved_elements(model, images: Tensor) -> int:
        saved: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = model(images).square().mean()
            before = sum(saved.values())
        loss.backward()
        return before


def layer_order(model: Any) -> list[str]:
    """Parameter names in the order in which data passes them: stem, stages, final norm, classifier."""
    classifier = {id(p) for p in model.get_classifier().parameters()}
    named = list(model.named_parameters())
    return [n for n, p in named if id(p) not in classifier] + [n for n, p in named if id(p) in classifier]

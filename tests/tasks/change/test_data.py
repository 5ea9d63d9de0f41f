"""From a recipe to three splits: who is learned from, what is measured, and what statistics know."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from crosshead.tasks.change.data import ChangeData, ChangeMeta, WholePairs, channel_statistics, load_data
from crosshead.tasks.change.held_out import TEST, TRAIN, VAL, deal_splits
from crosshead.tasks.change.pairs import ImagePair, gather, scan_pairs
from crosshead.tasks.change.recipe import ChangeRecipe
from crosshead.tasks.change.task import TASK


def pair(seed: int, height: int, width: int) -> ImagePair:
    before, after = np.random.default_rng(seed).integers(0, 256, (2, 3, height, width)).astype(np.uint8)
    label = np.zeros((height, width), np.uint8)
    return ImagePair(name=f"pair {seed}", before=before, after=after, label=label, bands=("r", "g", "b"))


def meta_of(*pairs: ImagePair) -> ChangeMeta:
    areas = [np.ones(each.size, bool) for each in pairs]
    mean, std = channel_statistics([each.before for each in pairs], areas)
    after_mean, after_std = channel_statistics([each.after for each in pairs], areas)
    return ChangeMeta(
        classes=("no", "yes"),
        in_chans=3,
        bands=("r", "g", "b"),
        mean=mean,
        std=std,
        after_mean=after_mean,
        after_std=after_std,
    )


@pytest.fixture
def recipe(pair_data) -> ChangeRecipe:
    return ChangeRecipe(data="folder", data_dir=pair_data, block=5, model="ivit_nano", epochs=1)


def faults_of(recipe: ChangeRecipe) -> list[Any]:
    return list(TASK.check_data(recipe))


def labels_of(data: ChangeData) -> list[np.ndarray]:
    splits = (data.train, data.val, data.test)
    return [split.pairs[0].label for split in splits if split is not None]


class TestSplits:
    @pytest.mark.parametrize("fold", range(4))
    def test_three_splits_share_out_the_labels(self, recipe, fold):
        labels = np.array(labels_of(load_data(replace(recipe, fold=fold))))
        assert ((labels > 0).sum((1, 2)) > 10).all()
        assert ((labels > 0).sum(0) <= 1).all()
        (everything,) = gather(scan_pairs(recipe.data_dir))
        assert np.array_equal(labels.sum(0), everything.label)

    def test_the_fold_is_the_test_set_with_and_without_validation(self, recipe):
        some, none = load_data(recipe), load_data(replace(recipe, val=0))
        assert none.val is None
        assert np.array_equal(some.test.pairs[0].label, none.test.pairs[0].label)
        train, val, _ = labels_of(some)
        assert np.array_equal(train + val, none.train.pairs[0].label)

    def test_a_guard_keeps_all_splits_apart(self, recipe):
        train, val, test = labels_of(load_data(replace(recipe, guard=2)))
        for one, other in ((train, val), (train, test), (val, test)):
            (rows, columns), (other_rows, other_columns) = np.nonzero(one), np.nonzero(other)
            distance = np.maximum(abs(rows[:, None] - other_rows), abs(columns[:, None] - other_columns))
            assert distance.min() > 2

    def test_statistics_are_those_of_the_training_area(self, recipe):
        data = load_data(recipe)
        (splits,) = deal_splits([(40, 40)], block=5)
        (found,) = data.train.pairs
        for image, mean, std in (
            (found.before, data.meta.mean, data.meta.std),
            (found.after, data.meta.after_mean, data.meta.after_std),
        ):
            values = image[:, splits == TRAIN].astype(float)
            assert mean == pytest.approx(values.mean(1))
            assert std == pytest.approx(values.std(1))

    @pytest.mark.parametrize("split", [VAL, TEST])
    def test_what_is_held_out_changes_neither_what_is_learned_from_nor_statistics(
        self, recipe, tmp_path, split
    ):
        (splits,) = deal_splits([(40, 40)], block=5)
        (found,) = gather(scan_pairs(recipe.data_dir))
        held_out = splits == split
        found.before[:, held_out], found.after[:, held_out] = 999, -999
        found.label[held_out] = 3 - found.label[held_out]
        for part in ("before", "after", "label"):
            (tmp_path / part).mkdir()
            np.save(
                tmp_path / part / "field.npy",
                getattr(found, part) % 3 if part == "label" else getattr(found, part),
            )
        data, other = load_data(recipe), load_data(replace(recipe, data_dir=tmp_path))
        assert other.meta == data.meta
        assert np.array_equal(labels_of(other)[TRAIN], labels_of(data)[TRAIN])
        assert not np.array_equal(labels_of(other)[split], labels_of(data)[split])

    def test_the_names_of_a_class_that_is_missing_and_of_the_folder_are_in_the_message(self, recipe, refused):
        refused(
            lambda: load_data(replace(recipe, class_names=("no", "yes", "perhaps"))),
            recipe.data_dir,
            "no train label of perhaps (3)",
        )
        assert [line.partition(": ")[2] for line in faults_of(replace(recipe, block=50))] == [
            "no train label of unchanged (1); choose a smaller --block, --guard or --val, or label more"
        ]
        (counts,) = faults_of(recipe)
        data = load_data(recipe)
        assert counts.totals == {"pairs with labels": {"train": 1, "val": 1, "test": 1}}
        for number, name in enumerate(recipe.class_names, start=1):
            assert counts.classes[f"pixels of {name}"] == {
                split: int((labels == number).sum())
                for split, labels in zip(("train", "val", "test"), labels_of(data), strict=True)
            }

    @pytest.mark.parametrize("held_out", [("val", "test"), ("test",)])
    def test_the_splits_of_folders_are_kept(self, write_pair_data, recipe, tmp_path, held_out):
        for split in ("train", *held_out):
            write_pair_data(tmp_path / split)
        data = load_data(replace(recipe, data_dir=tmp_path, block=10))
        places = {"train": 0, **{split: number for number, split in enumerate(held_out, start=1)}}
        whole = data.test.pairs[places["test"]].label
        for split in held_out:
            labels = [pair.label for pair in getattr(data, split).pairs]
            assert np.array_equal(labels.pop(places[split]), whole)
            assert not any(label.any() for label in labels)
        train = data.train.pairs[0].label
        if "val" in held_out:
            assert np.array_equal(train, whole)
        else:
            # A tenth of the blocks of the training pair validates.
            assert data.val is not None
            val = data.val.pairs[0].label
            assert not (train.astype(bool) & val.astype(bool)).any()
            assert np.array_equal(train + val, whole)
            assert 0 < (val > 0).sum() < (train > 0).sum() / 4

    @pytest.mark.parametrize("data", ["folder", "landsat"])
    def test_checking_lists_every_fault_and_a_missing_folder_as_one(self, recipe, tmp_path, data):
        elsewhere = replace(recipe, data=data, data_dir=tmp_path / "none")
        assert faults_of(elsewhere) == [
            f"{tmp_path}/none: no such folder; give --data-dir a folder that exists"
        ]
        for part in ("before", "after", "label"):
            (tmp_path / part).mkdir()
            (tmp_path / part / "field.png").write_bytes(b"nonsense")
        faults = faults_of(replace(recipe, data=data, data_dir=tmp_path))
        assert len(faults) == {"folder": 3, "landsat": 5}[data]

    def test_without_a_folder_nothing_is_looked_for(self, recipe, refused):
        for data in ("folder", "landsat"):
            refused(lambda data=data: load_data(replace(recipe, data=data, data_dir=None)), "--data-dir")
        refused(lambda: load_data(replace(recipe, download=True)), "change", "cannot be downloaded")


class TestRecipe:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"val": 0.6}, "val is 0.6: give at most 0.5"),
            ({"folds": 1}, "folds is 1: give 2 or more"),
            ({"fold": -1}, "fold is -1: give 0 to 3"),
            ({"class_names": ("a",)}, "class_names is .*: give 2 to 255, each of them once"),
            ({"class_names": ("a", "a")}, "each of them once"),
            ({"class_names": tuple(map(str, range(256)))}, "give 2 to 255"),
        ],
    )
    def test_what_cannot_work_is_refused_before_anything_is_loaded(self, recipe, changes, message):
        with pytest.raises(ValueError, match=message):
            replace(recipe, **changes).check()


class TestLoaders:
    def test_whole_pairs_are_measured_one_by_one_and_only_those_with_labels(self, recipe):
        data = load_data(recipe)
        unlabelled = replace(data.test.pairs[0], label=0 * data.test.pairs[0].label)
        twice = replace(
            data,
            train=WholePairs(data.train.pairs * 2),
            val=data.val and WholePairs([unlabelled, data.val.pairs[0]]),
            test=WholePairs([data.test.pairs[0], unlabelled]),
        )
        loaders = TASK.loaders(recipe, twice, data.meta)
        assert TASK.single_images
        assert loaders.eval_batch_size == 1
        for split, own in ((loaders.val, data.val), (loaders.test, data.test)):
            (sample,) = list(split)  # pyright: ignore[reportArgumentType]
            assert own is not None
            assert torch.equal(sample[2], own[0][2])
            assert sample[0].shape == (3, 40, 40)

    def test_images_are_prepared_by_the_statistics_of_the_run(self, recipe):
        data = load_data(recipe)
        other = replace(data.meta, mean=(1.0, 2.0, 3.0), std=(2.0, 2.0, 2.0))
        before, _, _ = TASK.loaders(recipe, data, other).test[0]  # pyright: ignore[reportOptionalSubscript]
        expected = (data.test.pairs[0].before - np.array([1, 2, 3])[:, None, None]) / 2
        assert np.array_equal(before.numpy(), expected.astype(np.float32))

    def test_all_splits_share_one_copy_of_the_images(self, recipe):
        data = load_data(recipe).standardised(load_data(recipe).meta)
        assert data.val is not None
        assert data.train.pairs[0].before is data.val.pairs[0].before is data.test.pairs[0].before


class TestStatistics:
    def test_each_channel_of_each_date_gets_mean_0_and_spread_1(self):
        pairs = pair(0, 6, 5), pair(1, 4, 9)
        images = [meta_of(*pairs).standardise(one) for one in pairs]
        for date in ("before", "after"):
            values = np.concatenate([getattr(one, date).reshape(3, -1) for one in images], axis=1)
            assert values.dtype == np.float32
            assert np.allclose(values.mean(axis=1, dtype=float), 0, atol=1e-7)
            assert np.allclose(values.std(axis=1, dtype=float), 1, atol=1e-7)

    def test_standardising_is_exact(self):
        one = pair(0, 6, 5)
        values = one.after[2].astype(float)
        expected = ((values - values.mean()) / values.std()).astype(np.float32)
        found = meta_of(one).standardise(one)
        assert np.array_equal(found.after[2], expected)
        assert found.label is one.label
        assert found.name == "pair 0"

    def test_pixels_outside_the_areas_do_not_count(self):
        images = [pair(0, 6, 5).before, pair(1, 4, 9).before]
        areas = [np.random.default_rng(2).random(image.shape[1:]) < 0.5 for image in images]
        mean, std = found = channel_statistics(images, areas)
        seen = np.concatenate([image[1][area] for image, area in zip(images, areas, strict=True)]).astype(
            float
        )
        assert mean[1] == pytest.approx(seen.mean(), rel=1e-14)
        assert std[1] == pytest.approx(seen.std(), rel=1e-14)
        for image, area in zip(images, areas, strict=True):
            image[:, ~area] = 255
        assert channel_statistics(images, areas) == found

    def test_sums_of_large_float32_images_do_not_lose_digits(self):
        image = np.full((1, 300, 300), 16_777_217.0, np.float32)
        image[0, 0, 0] = 0
        (mean,), _ = channel_statistics([image], [np.ones((300, 300), bool)])
        assert mean == pytest.approx(image.astype(float).mean(), rel=1e-14)

    def test_a_constant_channel_is_only_centred(self):
        one = pair(0, 6, 5)
        one.before[1] = 7
        meta = meta_of(one)
        assert (meta.mean[1], meta.std[1]) == (7, 1)
        assert not meta.standardise(one).before[1].any()

    def test_a_pair_of_another_sensor_is_refused(self):
        one = pair(0, 6, 5)
        grey = replace(one, before=one.before[:1], after=one.after[:1], bands=("grey",))
        with pytest.raises(ValueError, match="pair must have 3 channels, as the statistics; got 1 in pair 0"):
            meta_of(one).standardise(grey)

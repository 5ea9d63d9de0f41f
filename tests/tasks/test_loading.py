import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

from crosshead.tasks.classify.transforms import eval_transform, train_transform
from crosshead.tasks.loading import AugmentedImages, ImageLoaders, epoch_order


class Noise(Dataset):
    """Grey images that differ from each other, the index for a label."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        pixels = np.random.default_rng(index).integers(0, 256, (12, 12), dtype=np.uint8)
        return Image.fromarray(pixels), index


RANDOM = train_transform(
    image_size=8, mean=(0.5,), std=(0.5,), rand_augment="rand-m9-mstd0.5-inc1", erasing=0.5, rotation=20
)
FIXED = eval_transform(image_size=8, mean=(0.5,), std=(0.5,))


def loaders(*, epoch: int = 0, rank: int = 0, ranks: int = 1, workers: int = 0) -> ImageLoaders:
    made = ImageLoaders(
        train=Noise(21),
        val=Noise(5),
        test=Noise(7),
        train_transform=RANDOM,
        eval_transform=FIXED,
        batch_size=4,
        workers=workers,
        seed=3,
    )
    made.trainer = SimpleNamespace(current_epoch=epoch, global_rank=rank, world_size=ranks)  # pyright: ignore
    return made


def read(loader) -> tuple[torch.Tensor, list[int]]:
    batches = list(loader)
    return torch.cat([images for images, _ in batches]), torch.cat([labels for _, labels in batches]).tolist()


def test_an_epoch_visits_every_image_once_in_an_order_of_its_own():
    orders = [epoch_order(50, seed=0, epoch=epoch) for epoch in range(3)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert orders[0] != orders[1] != orders[2]
    assert orders[1] == epoch_order(50, seed=0, epoch=1)
    assert orders[1] != epoch_order(50, seed=1, epoch=1)


def test_ranks_share_an_epoch_evenly_and_without_overlap():
    parts = [epoch_order(50, seed=0, epoch=4, rank=rank, ranks=3) for rank in range(3)]
    assert [len(part) for part in parts] == [16, 16, 16]
    assert len(set().union(*parts)) == 48


def test_augmentation_depends_on_seed_epoch_and_image_alone():
    def image(seed: int, epoch: int, index: int) -> torch.Tensor:
        return AugmentedImages(Noise(9), RANDOM, seed=seed, epoch=epoch)[index][0]

    reference = image(0, 1, 5)
    torch.manual_seed(99)
    assert torch.equal(image(0, 1, 5), reference)
    assert not torch.equal(image(0, 2, 5), reference)
    assert not torch.equal(image(1, 1, 5), reference)


def test_images_of_one_epoch_are_augmented_differently():
    class Same(Noise):
        def __getitem__(self, index: int) -> tuple[Image.Image, int]:
            return super().__getitem__(0)

    images = AugmentedImages(Same(9), RANDOM, seed=0, epoch=1)
    assert not torch.equal(images[1][0], images[2][0])


@pytest.mark.parametrize("epoch", [0, 2])
def test_workers_change_nothing(epoch):
    alone, with_workers = loaders(epoch=epoch), loaders(epoch=epoch, workers=2)
    images, labels = read(alone.train_dataloader())
    same_images, same_labels = read(with_workers.train_dataloader())
    assert labels == same_labels
    assert torch.equal(images, same_images)


def test_loading_draws_nothing_from_the_generator_that_dropout_uses():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    read(loaders().train_dataloader())
    read(loaders().val_dataloader())
    assert torch.equal(torch.rand(3), expected)


def test_training_drops_the_incomplete_batch_and_testing_does_not():
    assert len(read(loaders().train_dataloader())[1]) == 20
    assert sorted(read(loaders().test_dataloader())[1]) == list(range(7))


def test_every_rank_gets_as_many_batches_and_all_images_are_measured():
    for split, size in (("val", 5), ("test", 7)):
        parts = [read(getattr(loaders(rank=rank, ranks=2), f"{split}_dataloader")())[1] for rank in (0, 1)]
        assert len(parts[0]) == len(parts[1]) == -(-size // 2)
        assert set(parts[0] + parts[1]) == set(range(size))


def test_loaders_for_evaluation_have_no_training_images():
    made = ImageLoaders(train=None, test=Noise(3), train_transform=None, eval_transform=FIXED, batch_size=2)
    with pytest.raises(ValueError, match="without a training set"):
        made.train_dataloader()
    assert made.val_dataloader() == []


def test_loaders_for_training_need_no_test_images():
    made = ImageLoaders(train=Noise(3), train_transform=RANDOM, eval_transform=FIXED, batch_size=2)
    with pytest.raises(ValueError, match="without a test set"):
        made.test_dataloader()


def test_a_worker_whose_run_was_killed_while_it_started_ends():
    code = "from crosshead.tasks.loading import _leave_orphaned; _leave_orphaned(0, parent=0); print('lives')"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (finished.returncode, finished.stdout) == (1, "")

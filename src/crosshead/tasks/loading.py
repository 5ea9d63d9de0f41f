"""Loaders whose order and augmentation are functions of (seed, epoch, item)."""

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, Dataset, Subset

from crosshead.tasks.classify.transforms import Transform
from crosshead.tasks.seeding import seed_from, seeded_on_host


class AugmentedItems(Dataset):
    """A map-style data set seen through a transform.

    Args:
        items: the data set, whose items are tuples.
        transform: is given the parts of an item one by one; its result is the item seen from outside.
        seed: with `epoch` and the index of the item, the seed of whatever the transform draws. The result is
            therefore the same for any number of workers, and after a restart.
        epoch: the epoch that is going to read.
    """

    def __init__(
        self, items: Dataset, transform: Callable[..., Any], *, seed: int = 0, epoch: int = 0
    ) -> None:
        self.items = items
        self.transform = transform
        self.seed = seed
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.items)  # pyright: ignore[reportArgumentType]

    def __getitem__(self, index: int) -> Any:
        parts = self.items[index]
        with seeded_on_host(self.seed, self.epoch, index):
            return self.transform(*parts)


class AugmentedImages(AugmentedItems):
    """A map-style data set of (PIL image, label) pairs, of which the transform sees the image alone.

    Args:
        images: the data set.
        transform: from PIL image to tensor.
        seed: as for `AugmentedItems`.
        epoch: as for `AugmentedItems`.
    """

    def __init__(self, images: Dataset, transform: Transform, *, seed: int = 0, epoch: int = 0) -> None:
        super().__init__(images, partial(_keep_label, transform), seed=seed, epoch=epoch)


def epoch_order(size: int, *, seed: int, epoch: int, rank: int = 0, ranks: int = 1) -> list[int]:
    """The images that one process visits in one epoch, in order; each rank gets equally many.

    Example:
        >>> parts = [epoch_order(6, seed=0, epoch=3, rank=rank, ranks=2) for rank in (0, 1)]
        >>> sorted(parts[0] + parts[1])
        [0, 1, 2, 3, 4, 5]
    """
    generator = torch.Generator().manual_seed(seed_from(seed, epoch))
    order = torch.randperm(size, generator=generator).tolist()
    return order[rank : size - size % ranks : ranks]


class EpochLoaders(pl.LightningDataModule):
    """Loaders of the three splits, for a Trainer with `reload_dataloaders_every_n_epochs=1`.

    A training loader belongs to one epoch: Lightning starts the workers of a resumed run before it tells the
    sampler which epoch it is, so the epoch has to be known when the loader is made.

    Args:
        train: from the number of an epoch to its training items, of which there are equally many in each;
            None where nothing is trained.
        val: items to validate on; None for none.
        test: items to test on; None where nothing is tested.
        batch_size: training items in each batch of each process.
        eval_batch_size: the same for val and test; by default as in training.
        collate: from a list of items to a batch; by default equal tensors are stacked.
        workers: loader processes; 0 loads in the main process.
        seed: the seed of the run.
    """

    def __init__(
        self,
        *,
        train: Callable[[int], Dataset] | None,
        val: Dataset | None,
        test: Dataset | None,
        batch_size: int,
        eval_batch_size: int | None = None,
        collate: Callable[[list], Any] | None = None,
        workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.train, self.val, self.test, self.collate = train, val, test, collate
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size or batch_size
        self.workers, self.seed = workers, seed

    def train_dataloader(self) -> DataLoader:
        """The loader of the epoch that the trainer is about to run."""
        train, trainer = self.training_items(), self._attached_trainer()
        epoch = trainer.current_epoch
        items = train(epoch)
        order = epoch_order(
            _length(items), seed=self.seed, epoch=epoch, rank=trainer.global_rank, ranks=trainer.world_size
        )
        return self._loader(Subset(items, order), self.batch_size, drop_last=True)

    def training_items(self) -> Callable[[int], Dataset]:
        """From the number of an epoch to its items.

        Raises:
            ValueError: if there is no training set.
        """
        if self.train is None:
            raise ValueError("these loaders were made without a training set: pass train")
        return self.train

    def val_dataloader(self) -> DataLoader | list:
        """The validation set, shared out among the processes; none where there is none."""
        return [] if self.val is None else self._shared_out(self.val)

    def test_dataloader(self) -> DataLoader:
        """The test set, shared out among the processes.

        Raises:
            ValueError: if there is none.
        """
        if self.test is None:
            raise ValueError("these loaders were made without a test set: pass test")
        return self._shared_out(self.test)

    def _shared_out(self, items: Dataset) -> DataLoader:
        """Each process has its part; a few items come twice where the set does not divide."""
        trainer = self._attached_trainer()
        size, ranks = _length(items), trainer.world_size
        padded = [index % size for index in range(-(-size // ranks) * ranks)]
        mine = Subset(items, padded[trainer.global_rank :: ranks])
        return self._loader(mine, self.eval_batch_size, drop_last=False)

    def steps_per_epoch(self, ranks: int) -> int:
        """Batches that each of so many processes trains on in an epoch."""
        return 0 if self.train is None else _length(self.train(0)) // ranks // self.batch_size

    def _attached_trainer(self) -> pl.Trainer:
        if self.trainer is None:
            raise ValueError("these loaders belong to no trainer yet: pass them to one as datamodule")
        return self.trainer

    def _loader(self, items: Dataset, batch_size: int, *, drop_last: bool) -> DataLoader:
        return DataLoader(
            items,
            batch_size=batch_size,
            drop_last=drop_last,
            collate_fn=self.collate,
            num_workers=self.workers,
            pin_memory=torch.cuda.is_available(),
            # Without a generator of its own a loader draws from the global one, which dropout uses.
            generator=torch.Generator(),
            worker_init_fn=partial(_leave_orphaned, parent=os.getpid()),
        )


class ImageLoaders(EpochLoaders):
    """Loaders of image classification.

    Args:
        train: training images with their labels, or None where nothing is trained.
        val: images to validate on with theirs, or None.
        test: images to test on with theirs, or None.
        train_transform: from PIL image to tensor, random.
        eval_transform: the same for evaluation, not random.
        batch_size: images in each batch of each process.
        workers: loader processes; 0 loads in the main process.
        seed: the seed of the run.
    """

    def __init__(
        self,
        *,
        train: Dataset | None,
        val: Dataset | None = None,
        test: Dataset | None = None,
        train_transform: Transform | None,
        eval_transform: Transform,
        batch_size: int,
        workers: int = 0,
        seed: int = 0,
    ) -> None:
        def augmented(epoch: int) -> AugmentedImages:
            assert train is not None
            assert train_transform is not None
            return AugmentedImages(train, train_transform, seed=seed, epoch=epoch)

        super().__init__(
            train=None if train is None or train_transform is None else augmented,
            val=None if val is None else AugmentedImages(val, eval_transform),
            test=None if test is None else AugmentedImages(test, eval_transform),
            batch_size=batch_size,
            workers=workers,
            seed=seed,
        )


def _keep_label(transform: Transform, image: Any, label: int) -> tuple[Any, int]:
    return transform(image), label


def _length(items: Dataset) -> int:
    # The type of map-style data sets does not promise a length.
    return len(items)  # pyright: ignore[reportArgumentType]


def _leave_orphaned(_worker: int, *, parent: int) -> None:
    """Ends a worker whose run was killed while it started; torch's own watch begins only after this."""
    if os.getppid() != parent:
        os._exit(1)

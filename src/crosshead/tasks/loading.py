"""Loaders of image classification whose order and augmentation are functions of (seed, epoch, image)."""

import os
from functools import partial

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from crosshead.tasks.augment import Transform
from crosshead.tasks.seeding import seed_from, seeded_on_host


class AugmentedImages(Dataset):
    """A map-style data set of (PIL image, label) pairs, seen through a transform.

    Args:
        images: The data set.
        transform: From PIL image to tensor.
        seed: With `epoch` and the index of the image, the seed of whatever the transform draws. The result is
            therefore the same for any number of workers, and after a restart.
        epoch: The epoch that is going to read.
    """

    def __init__(self, images: Dataset, transform: Transform, *, seed: int = 0, epoch: int = 0) -> None:
        self.images = images
        self.transform = transform
        self.seed = seed
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.images)  # pyright: ignore[reportArgumentType]

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = self.images[index]
        with seeded_on_host(self.seed, self.epoch, index):
            return self.transform(image), label


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


class ImageLoaders(pl.LightningDataModule):
    """Training and test loaders for a Trainer with `reload_dataloaders_every_n_epochs=1`.

    A training loader belongs to one epoch: Lightning starts the workers of a resumed run before it tells the
    sampler which epoch it is, so the epoch has to be known when the loader is made.

    Args:
        train: Training images, or None where only the test set is needed.
        test: Test images.
        train_transform: From PIL image to tensor, random.
        test_transform: The same for evaluation, not random.
        batch_size: Images in each batch of each process.
        workers: Loader processes; 0 loads in the main process.
        seed: The seed of the run.
    """

    def __init__(
        self,
        *,
        train: Dataset | None,
        test: Dataset,
        train_transform: Transform | None,
        test_transform: Transform,
        batch_size: int,
        workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.train, self.test = train, test
        self.train_transform, self.test_transform = train_transform, test_transform
        self.batch_size, self.workers, self.seed = batch_size, workers, seed

    def train_dataloader(self) -> DataLoader:
        """The loader of the epoch that the trainer is about to run."""
        if self.train is None or self.train_transform is None:
            raise ValueError("these loaders were made without a training set: pass train and train_transform")
        trainer = self._attached_trainer()
        epoch = trainer.current_epoch
        images = AugmentedImages(self.train, self.train_transform, seed=self.seed, epoch=epoch)
        order = epoch_order(
            len(images), seed=self.seed, epoch=epoch, rank=trainer.global_rank, ranks=trainer.world_size
        )
        return self._loader(Subset(images, order), drop_last=True)

    def val_dataloader(self) -> DataLoader:
        """The test set, shared out among the processes; a few images come twice where it does not divide."""
        images = AugmentedImages(self.test, self.test_transform)
        trainer = self._attached_trainer()
        size, ranks = len(images), trainer.world_size
        padded = [index % size for index in range(-(-size // ranks) * ranks)]
        return self._loader(Subset(images, padded[trainer.global_rank :: ranks]), drop_last=False)

    def test_dataloader(self) -> DataLoader:
        """The same as during training."""
        return self.val_dataloader()

    def steps_per_epoch(self, ranks: int) -> int:
        """Batches that each of so many processes trains on in an epoch."""
        return 0 if self.train is None else len(self.train) // ranks // self.batch_size  # pyright: ignore[reportArgumentType]

    def _attached_trainer(self) -> pl.Trainer:
        if self.trainer is None:
            raise ValueError("these loaders belong to no trainer yet: pass them to one as datamodule")
        return self.trainer

    def _loader(self, images: Dataset, *, drop_last: bool) -> DataLoader:
        return DataLoader(
            images,
            batch_size=self.batch_size,
            drop_last=drop_last,
            num_workers=self.workers,
            pin_memory=torch.cuda.is_available(),
            # Without a generator of its own a loader draws from the global one, which dropout uses.
            generator=torch.Generator(),
            worker_init_fn=partial(_leave_orphaned, parent=os.getpid()),
        )


def _leave_orphaned(_worker: int, *, parent: int) -> None:
    """Ends a worker whose run was killed while it started; torch's own watch begins only after this."""
    if os.getppid() != parent:
        os._exit(1)

"""Change between two dates, for each pixel."""

from dataclasses import replace

from crosshead.tasks.change.recipe import ChangeRecipe


def change() -> ChangeRecipe:
    """A Siamese iViT on your own image pairs of any number of bands, in folders before/, after/ and label/.

    Labels may be sparse: 0 is unlabelled, 1 unchanged, 2 changed (--class-names for other classes); or
    binary, 0 and 255.

    Expect: depends on the images. Time: not measured.

    Command: crosshead train change --data-dir DIR
    """
    return replace(landsat(), data="folder", crop=64, epochs=30)


def landsat() -> ChangeRecipe:
    """A Siamese iViT on the Taizhou scene: Landsat ETM+ at two dates, six bands, sparse labels of change.

    Blocks of 50 x 50 pixels are held out, a quarter of them in each of four folds (--fold 0 to 3).

    Expect: F1 97.7 % and an area under the ROC curve of 0.998, means of the four folds (seed 0). Time: less
    than a minute a fold on one shared core of an AMD EPYC server.

    Command: crosshead train landsat --data-dir DIR --fold 0
    """
    return ChangeRecipe(
        data="landsat",
        # A tenth of the blocks holds too few changed pixels in some folds.
        val=0.2,
        model="ivit_nano",
        model_args={
            "stem_stride": 2,
            "dims": (16, 32, 64, 96),
            "depths": (1, 1, 2, 1),
            "head_dim": 8,
            "mlp_ratio": 3,
        },
        dim=32,
        crop=48,
        crops=512,
        tile=128,
        epochs=6,
        batch_size=16,
        lr=2e-3,
        warmup_epochs=1,
        clip_grad=1.0,
        dropout=0.1,
        drop_path=0.1,
    )

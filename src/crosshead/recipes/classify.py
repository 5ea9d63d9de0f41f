"""Classification: a class for each image."""

from crosshead.tasks.classify.recipe import ClassifyRecipe


def classify() -> ClassifyRecipe:
    """iViT-nano on your own images: a folder for each class, in train/, val/ and test/ or without splits.

    For a few hundred to a few thousand images on one machine; --check-data looks at them first.

    Expect: depends on the images; with few of them, start from a trained run. Time: not measured.

    Command: crosshead train classify --data-dir DIR [--from RUN]
    """
    return ClassifyRecipe(
        data="folder",
        image_size=224,
        crop_fraction=0.95,
        model="ivit_nano",
        epochs=50,
        batch_size=32,
        lr=1e-3,
        warmup_epochs=3,
        clip_grad=1.0,
        smoothing=0.1,
        drop_path=0.05,
        crop_scale=(0.35, 1.0),
        rand_augment="rand-m7-mstd0.5-inc1",
        workers=2,
    )


def digits() -> ClassifyRecipe:
    """A small iViT on scikit-learn's 8 x 8 digits: real images without a download, to see everything work.

    Expect: 98.5 % test accuracy as the mean of seeds 0, 1 and 2 (99.2, 97.8, 98.6).
    Time: about a minute on one core of an AMD EPYC server.

    Command: crosshead train digits
    """
    return ClassifyRecipe(
        data="digits",
        model="ivit_nano",
        # 8 x 8 pixels become maps of 8, 4, 2 and 1 a side: the middle two stages attend.
        model_args={
            "stem_stride": 1,
            "depths": (1, 1, 2, 1),
            "dims": (24, 48, 64, 96),
            "attention_stages": (1, 2),
            "landmarks": (4, 2, 2, 1),
            "head_dim": (8, 8, 8, 16),
            "mlp_ratio": 3,
            "kernel_size": 3,
        },
        epochs=24,
        batch_size=64,
        lr=2e-3,
        warmup_epochs=2,
        crop="padded",
        crop_padding=1,
        flip=0.0,
        rotation=10.0,
        # More threads cost more than they bring on maps this small.
        threads=1,
    )


def fashion_mnist() -> ClassifyRecipe:
    """iViT-pico on Fashion-MNIST, for one CPU core: what the trained model in the package was made by.

    Expect: 92.5 % test accuracy (seed 0). Time: 53 minutes on a busy core of an AMD EPYC server.

    Command: crosshead train fashion-mnist --data-dir DIR
    """
    return ClassifyRecipe(
        data="fashion-mnist",
        model="ivit_pico",
        epochs=10,
        batch_size=64,
        lr=3e-3,
        warmup_epochs=1,
        clip_grad=1.0,
        crop="center",
        workers=1,
    )


def cifar10() -> ClassifyRecipe:
    """iViT-nano on CIFAR-10, for one GPU.

    Expect: not measured. Time: not measured.

    Command: crosshead train cifar10 --data-dir DIR --precision bf16-mixed
    """
    return ClassifyRecipe(
        data="cifar10",
        model="ivit_nano",
        model_args={"stem_stride": 1},
        epochs=100,
        batch_size=128,
        lr=1e-3,
        warmup_epochs=5,
        crop="padded",
        crop_padding=4,
        rand_augment="rand-m9-mstd0.5-inc1",
        mixup=0.2,
        cutmix=1.0,
        smoothing=0.1,
        drop_path=0.1,
        workers=4,
    )


def imagenet1k() -> ClassifyRecipe:
    """iViT-tiny on ImageNet-1k from scratch, at the scale of published results: 1,024 images an update.

    The settings are those that vision transformers of this size are commonly trained by (Touvron et al.,
    "Training data-efficient image transformers", 2021): 300 epochs, AdamW, cosine with warm-up, RandAugment,
    mixup, cutmix, random erasing, label smoothing, stochastic depth, averaged weights, bf16.

    Expect: not measured. Time: not measured.

    Command: crosshead train imagenet1k --data-dir DIR --devices 8 --compile
    """
    return ClassifyRecipe(
        data="imagenet1k",
        image_size=224,
        crop_fraction=0.95,
        model="ivit_tiny",
        epochs=300,
        batch_size=128,
        lr=1e-3,
        min_lr=1e-5,
        warmup_epochs=20,
        weight_decay=0.05,
        clip_grad=5.0,
        smoothing=0.1,
        drop_path=0.1,
        ema=0.9999,
        rand_augment="rand-m9-mstd0.5-inc1",
        erasing=0.25,
        mixup=0.8,
        cutmix=1.0,
        devices=8,
        strategy="ddp",
        precision="bf16-mixed",
        channels_last=True,
        workers=10,
    )

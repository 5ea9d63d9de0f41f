from crosshead.tasks.classify.recipe import ClassifyRecipe


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

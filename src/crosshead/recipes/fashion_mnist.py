from crosshead.runs.recipe import ClassifyRecipe


def fashion_mnist() -> ClassifyRecipe:
    """A small iViT on Fashion-MNIST, for two CPU cores.

    Expect: not measured. Time: not measured.

    Command: crosshead train fashion-mnist --data-dir DIR
    """
    return ClassifyRecipe(
        data="fashion-mnist",
        model="ivit_nano",
        model_args={"stem_stride": 1},
        epochs=20,
        batch_size=128,
        lr=2e-3,
        warmup_epochs=1,
        crop="padded",
        crop_padding=2,
        workers=1,
    )

from crosshead.tasks.classify.recipe import ClassifyRecipe


def folder() -> ClassifyRecipe:
    """iViT-tiny on a folder of your own images, one sub-folder for each class.

    Expect: depends on the images; with few of them, start from a trained run. Time: not measured.

    Command: crosshead train folder --data-dir DIR [--from RUN]
    """
    return ClassifyRecipe(
        data="folder",
        image_size=224,
        crop_share=0.95,
        model="ivit_tiny",
        epochs=30,
        batch_size=32,
        lr=5e-4,
        warmup_epochs=3,
        clip_grad=1.0,
        smoothing=0.1,
        drop_path=0.1,
        crop_scale=(0.35, 1.0),
        rand_augment="rand-m7-mstd0.5-inc1",
        workers=4,
    )

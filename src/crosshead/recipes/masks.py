from crosshead.tasks.segment.recipe import SegmentRecipe


def masks() -> SegmentRecipe:
    """UPerNet over iViT-tiny on your own images: folders of images and of label images.

    Labels are grey or palette PNG files of class numbers; 255 is ignored, another value by --ignore-index.

    Expect: depends on the images; with few of them, start from a trained run. Time: not measured.

    Command: crosshead train masks --data-dir DIR [--from RUN]
    """
    return SegmentRecipe(
        data="masks",
        model="ivit_tiny",
        drop_path=0.1,
        crop=512,
        epochs=50,
        batch_size=8,
        lr=3e-4,
        warmup_epochs=3,
        clip_grad=1.0,
        color_jitter=0.3,
        workers=4,
    )

from dataclasses import replace

from crosshead.tasks.detect.recipe import DetectRecipe


def coco() -> DetectRecipe:
    """Mask R-CNN over iViT-tiny on COCO by the 1x schedule: 12 epochs, 16 images an update, long side 1333.

    The published annotations have a few boxes of no area; they are left out, with a warning.

    Expect: not measured. Time: not measured.

    Command: crosshead train coco --data-dir DIR --devices 8 --from RUN
    """
    return DetectRecipe(
        data="coco",
        detector="mask-rcnn",
        skip_faulty=True,
        model="ivit_tiny",
        drop_path=0.1,
        min_size=800,
        max_size=1333,
        epochs=12,
        batch_size=2,
        lr=1e-4,
        warmup_epochs=1,
        clip_grad=1.0,
        devices=8,
        strategy="ddp",
        precision="bf16-mixed",
        channels_last=True,
        workers=4,
    )


def coco_3x() -> DetectRecipe:
    """The same for 36 epochs, with images scaled at random: the 3x schedule.

    Expect: not measured. Time: not measured.

    Command: crosshead train coco-3x --data-dir DIR --devices 8 --from RUN
    """
    return replace(coco(), epochs=36, drop_path=0.2, scale=(0.5, 1.5))

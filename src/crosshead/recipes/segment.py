"""Segmentation: a class for each pixel."""

from crosshead.tasks.segment.recipe import SegmentRecipe

# 1.3 million parameters in place of iViT-nano's 4.1, for one shared core.
SMALL = {"dims": (32, 64, 128, 192), "depths": (1, 2, 3, 1), "head_dim": 16, "mlp_ratio": 3}


def segment() -> SegmentRecipe:
    """UPerNet over iViT-nano on your own images: label images, grey, palette, binary or coloured, or objects.

    For a few hundred to a few thousand images on one machine; --check-data looks at them first. Polygons and
    masks of objects (COCO, YOLO, CVAT) are painted into one map.

    Expect: depends on the images; with few of them, start from a trained run. Time: not measured.

    Command: crosshead train segment --data-dir DIR [--from RUN]
    """
    return SegmentRecipe(
        data="folder",
        model="ivit_nano",
        drop_path=0.05,
        decoder_dim=128,
        crop=384,
        epochs=50,
        val_every=2,
        batch_size=8,
        lr=5e-4,
        warmup_epochs=3,
        clip_grad=1.0,
        color_jitter=0.3,
        workers=2,
    )


def nuclei_semantic() -> SegmentRecipe:
    """FPN over a small iViT on the nuclei of the 2018 Data Science Bowl: nucleus or background.

    The masks of all nuclei of an image are painted into one map. The stem has stride 2: the border of
    a nucleus ten pixels wide is a third of it.

    Expect: mean IoU 89.4 % after --epochs 6 (seed 0, --val 0); 20 were not tried. Time: 21 minutes for six
    epochs on one shared core of an AMD EPYC server.

    Command: crosshead train nuclei-semantic --data-dir DIR
    """
    return SegmentRecipe(
        data="folder",
        model="ivit_nano",
        model_args={"stem_stride": 2, **SMALL},
        decoder="fpn",
        decoder_dim=64,
        crop=256,
        scale=(0.75, 1.5),
        epochs=20,
        val_every=2,
        batch_size=8,
        lr=2e-3,
        warmup_epochs=1,
        clip_grad=1.0,
        vertical_flip=0.5,
        color_jitter=0.2,
    )


def fashion_scenes() -> SegmentRecipe:
    """FPN over a small iViT on scenes that are made of Fashion-MNIST: ten classes of clothes, exact labels.

    Needs the folder of Fashion-MNIST; the 4,000 training and 500 test scenes of 128 x 128 pixels are made as
    they are read.

    Expect: mean IoU 35.0 % after --epochs 2 (seed 0, --val 0), far from converged; 10 were not tried.
    Time: 13 minutes for two epochs on one shared core of an AMD EPYC server.

    Command: crosshead train fashion-scenes --data-dir DIR
    """
    return SegmentRecipe(
        data="fashion-scenes",
        model="ivit_nano",
        model_args={"stem_stride": 2, **SMALL},
        decoder="fpn",
        decoder_dim=64,
        crop=128,
        scale=(1.0, 1.0),
        flip=0.5,
        epochs=10,
        batch_size=16,
        lr=2e-3,
        warmup_epochs=1,
        clip_grad=1.0,
        workers=1,
    )


def ade20k() -> SegmentRecipe:
    """UPerNet over iViT-tiny on ADE20K's 150 classes, at the scale of published results.

    About 160,000 updates of 16 crops of 512 x 512 pixels. The folder holds images/{training,validation} and
    annotations/{training,validation} as published; label 0 is not a class.

    Expect: not measured. Time: not measured.

    Command: crosshead train ade20k --data-dir DIR --devices 8 --from RUN
    """
    return SegmentRecipe(
        data="folder",
        reduce_zero_label=True,
        model="ivit_tiny",
        drop_path=0.1,
        decoder_dim=512,
        dice=0.0,
        crop=512,
        epochs=127,
        batch_size=2,
        lr=1e-4,
        warmup_epochs=1,
        clip_grad=1.0,
        color_jitter=0.4,
        devices=8,
        strategy="ddp",
        precision="bf16-mixed",
        channels_last=True,
        workers=4,
    )

"""Detection: a box, and where it is asked for a mask, for each object."""

from dataclasses import replace

from crosshead.tasks.detect.recipe import DetectRecipe

# 1.3 million parameters in place of iViT-nano's 4.1, for one shared core.
SMALL = {"dims": (32, 64, 128, 192), "depths": (1, 2, 3, 1), "head_dim": 16, "mlp_ratio": 3}


def detect() -> DetectRecipe:
    """Faster R-CNN over iViT-nano on your own images with boxes: COCO, YOLO, CVAT or Pascal VOC, as exported.

    For a few hundred to a few thousand images on one machine; --check-data looks at them first. Images are
    seen with a long side of at most 1,024 pixels; for objects much smaller or larger give other
    --anchor-sizes.

    Expect: depends on the images; with few of them, start from a trained run. Time: not measured.

    Command: crosshead train detect --data-dir DIR [--from RUN]
    """
    return DetectRecipe(
        data="folder",
        detector="faster-rcnn",
        model="ivit_nano",
        drop_path=0.05,
        pyramid_dim=128,
        rois=256,
        max_size=1024,
        anchor_sizes=(16, 32, 64, 128, 256),
        scale=(0.75, 1.25),
        epochs=30,
        val_every=2,
        batch_size=4,
        lr=5e-4,
        warmup_epochs=1,
        clip_grad=5.0,
        color_jitter=0.2,
        workers=2,
    )


def instances() -> DetectRecipe:
    """Mask R-CNN over iViT-nano on your own images with a mask for each object, as exported: the recipe
    detect.

    Masks are COCO's polygons and run lengths, YOLO's polygons, CVAT's polygons and masks.

    Expect: depends on the images; with few of them, start from a trained run. Time: not measured.

    Command: crosshead train instances --data-dir DIR [--from RUN]
    """
    return replace(detect(), detector="mask-rcnn")


def bccd() -> DetectRecipe:
    """Faster R-CNN over a small iViT on BCCD's blood cells: boxes of red cells, white cells and platelets.

    An example of the recipe detect, for one shared core; other images do as well.

    Expect: box AP50 88.8 %, AP 56.1 % on the val split (seed 0); the test split was not measured. Time: 20
    minutes on one shared core of an AMD EPYC server.

    Command: crosshead train bccd --data-dir DIR
    """
    return DetectRecipe(
        data="folder",
        detector="faster-rcnn",
        model="ivit_nano",
        model_args={**SMALL},
        pyramid_dim=96,
        rois=128,
        anchor_sizes=(12, 24, 48, 96, 192),
        epochs=16,
        val_every=4,
        batch_size=4,
        lr=1e-3,
        warmup_epochs=1,
        clip_grad=5.0,
        vertical_flip=0.5,
        color_jitter=0.2,
    )


def nuclei() -> DetectRecipe:
    """Mask R-CNN over a small iViT on the nuclei of the 2018 Data Science Bowl: up to 367 small objects an
    image.

    Anchors are small, and 500 detections an image are kept and measured: with COCO's usual 100 a quarter of
    the nuclei of crowded images could not be found.

    Expect: mask AP50 73.5 %, AP 37.1 % after --epochs 4 (seed 0, --val 0); 12 were not tried. Time: 25
    minutes for four epochs on one shared core of an AMD EPYC server.

    Command: crosshead train nuclei --data-dir DIR
    """
    return DetectRecipe(
        data="folder",
        detector="mask-rcnn",
        model="ivit_nano",
        model_args={**SMALL},
        pyramid_dim=96,
        rois=128,
        anchor_sizes=(8, 16, 32, 64, 128),
        max_detections=500,
        epochs=12,
        val_every=4,
        batch_size=4,
        lr=1e-3,
        warmup_epochs=1,
        clip_grad=5.0,
        vertical_flip=0.5,
        color_jitter=0.2,
    )


def coco() -> DetectRecipe:
    """Mask R-CNN over iViT-tiny on COCO by the 1x schedule: 12 epochs, 16 images an update, long side 1333.

    The published annotations have a few boxes of no area; they are left out, with a warning.

    Expect: not measured. Time: not measured.

    Command: crosshead train coco --data-dir DIR --devices 8 --from RUN
    """
    return DetectRecipe(
        data="folder",
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
    """The recipe coco for 36 epochs, with images scaled at random: the 3x schedule.

    Expect: not measured. Time: not measured.

    Command: crosshead train coco-3x --data-dir DIR --devices 8 --from RUN
    """
    return replace(coco(), epochs=36, drop_path=0.2, scale=(0.5, 1.5))

from crosshead.tasks.detect.recipe import DetectRecipe


def bccd() -> DetectRecipe:
    """Faster R-CNN over a small iViT on BCCD's blood cells: boxes of red cells, white cells and platelets.

    Any data set in COCO format does, with other --anchor-sizes where its objects are much larger or smaller.

    Expect: box AP50 88.8 %, AP 56.1 % on the val split (seed 0). Time: 20 minutes on one shared core of an
    AMD EPYC server.

    Command: crosshead train bccd --data-dir DIR
    """
    return DetectRecipe(
        data="coco",
        detector="faster-rcnn",
        model="ivit_nano",
        model_args={
            "dims": (32, 64, 128, 192),
            "depths": (1, 2, 3, 1),
            "head_dim": 16,
            "mlp_ratio": 3,
        },
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

from crosshead.tasks.detect.recipe import DetectRecipe


def nuclei() -> DetectRecipe:
    """Mask R-CNN over a small iViT on the nuclei of the 2018 Data Science Bowl: up to 367 small objects an
    image.

    Anchors are small, and 500 detections an image are kept and measured: with COCO's usual 100 a quarter of
    the nuclei of crowded images could not be found.

    Expect: mask AP50 73.5 %, AP 37.1 % after --epochs 4 (seed 0); 12 were not tried. Time: 25 minutes for
    four epochs on one shared core of an AMD EPYC server.

    Command: crosshead train nuclei --data-dir DIR
    """
    return DetectRecipe(
        data="coco",
        detector="mask-rcnn",
        model="ivit_nano",
        model_args={
            "dims": (32, 64, 128, 192),
            "depths": (1, 2, 3, 1),
            "head_dim": 16,
            "mlp_ratio": 3,
        },
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

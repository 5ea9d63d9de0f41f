from crosshead.tasks.segment.recipe import SegmentRecipe


def nuclei_semantic() -> SegmentRecipe:
    """FPN over a small iViT on the nuclei of the 2018 Data Science Bowl: nucleus or background.

    The masks of all nuclei of an image are painted into one map. The stem has stride 2: the border of
    a nucleus ten pixels wide is a third of it.

    Expect: mean IoU 89.4 % after --epochs 6 (seed 0); 20 were not tried. Time: 21 minutes for six epochs on
    one shared core of an AMD EPYC server.

    Command: crosshead train nuclei-semantic --data-dir DIR
    """
    return SegmentRecipe(
        data="coco",
        model="ivit_nano",
        model_args={
            "stem_stride": 2,
            "dims": (32, 64, 128, 192),
            "depths": (1, 2, 3, 1),
            "head_dim": 16,
            "mlp_ratio": 3,
        },
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

from crosshead.tasks.segment.recipe import SegmentRecipe


def ade20k() -> SegmentRecipe:
    """UPerNet over iViT-tiny on ADE20K's 150 classes, at the scale of published results.

    About 160,000 updates of 16 crops of 512 x 512 pixels. The folder holds images/{training,validation} and
    annotations/{training,validation} as published; label 0 is no class.

    Expect: not measured. Time: not measured.

    Command: crosshead train ade20k --data-dir DIR --devices 8 --from RUN
    """
    return SegmentRecipe(
        data="masks",
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

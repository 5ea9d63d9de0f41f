from crosshead.tasks.classify.recipe import ClassifyRecipe


def imagenet1k() -> ClassifyRecipe:
    """iViT-tiny on ImageNet-1k from scratch, at the scale of published results: 1,024 images an update.

    The settings are those that vision transformers of this size are commonly trained by (Touvron et al.,
    "Training data-efficient image transformers", 2021): 300 epochs, AdamW, cosine with warm-up, RandAugment,
    mixup, cutmix, random erasing, label smoothing, stochastic depth, averaged weights, bf16.

    Expect: not measured. Time: not measured.

    Command: crosshead train imagenet1k --data-dir DIR --devices 8 --compile
    """
    return ClassifyRecipe(
        data="imagenet1k",
        image_size=224,
        crop_share=0.95,
        model="ivit_tiny",
        epochs=300,
        batch_size=128,
        lr=1e-3,
        min_lr=1e-5,
        warmup_epochs=20,
        weight_decay=0.05,
        clip_grad=5.0,
        smoothing=0.1,
        drop_path=0.1,
        ema=0.9999,
        rand_augment="rand-m9-mstd0.5-inc1",
        erasing=0.25,
        mixup=0.8,
        cutmix=1.0,
        devices=8,
        strategy="ddp",
        precision="bf16-mixed",
        channels_last=True,
        workers=10,
    )

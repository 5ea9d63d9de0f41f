"""Linearization: a trained ViT, whose tokens cost less."""

from crosshead.tasks.linearize.recipe import LinearizeRecipe


def linearize() -> LinearizeRecipe:
    """A trained ViT to linear cost: interactive attention that learns to give the teacher's tokens.

    Any images do, without labels; the more kinds of them, the better it holds for others. Labels come
    afterwards, by `crosshead train classify --from RUN`.

    Expect: of a ViT-S/14, cosines of .91 with the teacher's tokens at 1,036 pixels, in .28 of its time
    (docs/results.md, with crops of two sizes and a local term). Time: an hour and a half of a CPU core.

    Command: crosshead train linearize --data-dir IMAGES --model NAME
    """
    return LinearizeRecipe(
        model="vit_small_patch14_dinov2.lvd142m",
        batch_size=16,
        lr=1e-3,
        feature_lr=1e-5,
        weight_decay=0.0,
        warmup_epochs=1,
        clip_grad=1.0,
        workers=1,
    )

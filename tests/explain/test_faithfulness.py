"""A net whose score depends on one known patch gives the best possible curves for the map that names it."""

import pytest
import torch

from crosshead.explain.faithfulness import deletion, insertion

# Three rows and four columns of patches of 4 x 5 pixels, the third of the second row being all that counts.
GRID, PATCHES, PLACE = (3, 4), 12, (slice(4, 8), slice(10, 15))


def score(images: torch.Tensor) -> torch.Tensor:
    return images[..., *PLACE].mean((1, 2, 3))


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    images = torch.rand(2, 3, 12, 20, generator=torch.Generator().manual_seed(0)).double()
    images[..., *PLACE] = 1
    return images


def named(row: int, column: int) -> torch.Tensor:
    """A map that finds one patch important."""
    importance = torch.zeros(2, *GRID)
    importance[:, row, column] = 1
    return importance


def test_the_true_map_has_the_best_possible_areas_and_no_other_has(images):
    least, most = 0.5 / PATCHES, 1 - 0.5 / PATCHES
    true = named(1, 2)
    assert deletion(score, images, true).area.tolist() == pytest.approx([least, least])
    assert insertion(score, images, true).area.tolist() == pytest.approx([most, most])
    for row in range(3):
        for column in range(4):
            if (row, column) != (1, 2):
                assert (deletion(score, images, named(row, column)).area > least).all()
                assert (insertion(score, images, named(row, column)).area < most).all()
    assert deletion(score, images, -true).area.tolist() == pytest.approx([most, most])


def test_each_image_has_an_order_of_its_own(images):
    importance = torch.cat([named(1, 2)[:1], -named(1, 2)[:1]])
    curve = deletion(score, images, importance)
    assert curve.fractions.tolist() == pytest.approx([step / PATCHES for step in range(PATCHES + 1)])
    assert curve.scores.tolist() == [[1] + [0] * PATCHES, [1] * PATCHES + [0]]


def test_patches_become_what_they_are_filled_with(images):
    seen: list[torch.Tensor] = []
    fill = torch.full_like(images, 7)
    deletion(lambda x: seen.append(x) or score(x), images, named(1, 2), fill=fill, steps=PATCHES)
    expected = images.clone()
    expected[..., *PLACE] = 7
    assert torch.equal(seen[0], images)
    assert torch.equal(seen[1], expected)
    assert torch.equal(seen[-1], fill)
    insertion(lambda x: seen.append(x) or score(x), images, named(1, 2), fill=7)
    assert torch.equal(seen[-PATCHES - 1], fill)
    assert torch.equal(seen[-1], images)
    assert (seen[-PATCHES] == 7).double().mean() == pytest.approx(1 - 1 / PATCHES)


def test_a_step_takes_several_patches(images):
    curve = deletion(score, images, named(1, 2), steps=5)
    assert curve.fractions.tolist() == pytest.approx([0, 2 / 12, 5 / 12, 7 / 12, 10 / 12, 1])


def test_a_grid_that_does_not_divide_the_image_covers_all_of_it(images):
    seen: list[torch.Tensor] = []
    deletion(lambda x: seen.append(x) or score(x), images, torch.rand(2, 5, 7), fill=9)
    assert (seen[-1] == 9).all()


def test_sequences_and_volumes_have_patches_too():
    volume = torch.ones(1, 1, 4, 4, 4)
    assert deletion(lambda x: x.mean((1, 2, 3, 4)), volume, torch.rand(1, 2, 2, 2)).area.item() == 0.5
    assert deletion(lambda x: x.mean((1, 2)), torch.ones(1, 1, 6), torch.rand(1, 3)).area.item() == 0.5


def test_curves_keep_no_graph(images):
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)
    assert not deletion(lambda x: score(x) * weight, images, named(1, 2)).scores.requires_grad


def message(images, importance, *, score=score, **options) -> str:
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as caught:  # one line
        deletion(score, images, importance, **options)
    return str(caught.value)


def test_what_does_not_fit(images):
    assert "got (2, 12) for (2, 3, 12, 20)" in message(images, torch.rand(2, 12))
    assert "got (1, 3, 4) for (2, 3, 12, 20)" in message(images, torch.rand(1, 3, 4))
    assert "must be finite" in message(images, named(1, 2) / 0)
    for steps in (0, 13):
        assert f"steps must be 1 to 12, the patches of the grid; got {steps}" in message(
            images, named(1, 2), steps=steps
        )
    assert "got ()" in message(images, named(1, 2), score=torch.sum)

import torch

from crosshead.rivals.masked_softmax import masked_softmax


def test_equals_the_softmax_of_the_allowed_entries_alone():
    logits = torch.tensor([3.0, -1.0, 700.0, 2.0], dtype=torch.float64)
    allowed = torch.tensor([True, True, False, True])
    weights = masked_softmax(logits, allowed)
    torch.testing.assert_close(weights[allowed], logits[allowed].softmax(-1))
    assert weights[2] == 0


def test_without_a_mask_it_is_softmax_along_the_axis_asked_for():
    logits = torch.randn(2, 3, dtype=torch.float64)
    torch.testing.assert_close(masked_softmax(logits, None, dim=0).sum(0), torch.ones(3, dtype=torch.float64))


def test_a_row_where_nothing_is_allowed_stays_finite_in_every_dtype():
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        weights = masked_softmax(torch.randn(2, 3, dtype=dtype), torch.zeros(2, 3, dtype=torch.bool))
        torch.testing.assert_close(weights, torch.full_like(weights, 1 / 3))

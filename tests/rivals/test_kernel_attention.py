import torch

from crosshead.rivals.kernel_attention import kernel_attention


def test_equals_the_weighted_mean_over_a_dense_map():
    q, k = torch.rand(2, 5, 3, dtype=torch.float64), torch.rand(2, 7, 3, dtype=torch.float64)
    v = torch.randn(2, 7, 4, dtype=torch.float64)
    weights = q @ k.mT
    torch.testing.assert_close(kernel_attention(q, k, v), weights / weights.sum(-1, keepdim=True) @ v)


def test_queries_that_meet_no_key_get_zeros():
    out = kernel_attention(torch.zeros(2, 3), torch.rand(4, 3), torch.randn(4, 5))
    torch.testing.assert_close(out, torch.zeros(2, 5))

"""A workload computes what it says, with gradients or without a graph."""

import torch
from torch import nn

from crosshead.measure.workload import classifier_workload, make_workload


def test_a_forward_pass_keeps_no_graph():
    x = torch.ones(2, requires_grad=True)
    computed = make_workload(lambda: 2 * x, [x]).run()
    assert not computed.output.requires_grad
    assert computed.gradients == ()


def test_gradients_are_under_the_cotangent_and_leave_out_what_is_not_read():
    x, unread = (torch.ones(2, requires_grad=True) for _ in range(2))
    cotangent = torch.tensor([1.0, 3.0])
    computed = make_workload(lambda: 2 * x, [x, cotangent], leaves=[x, unread], cotangent=cotangent).run()
    assert computed.output.tolist() == [2, 2]
    assert [gradient.tolist() for gradient in computed.gradients] == [[2, 6]]


def test_a_classifier_is_in_the_mode_that_is_measured():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    samples = torch.randn(5, 3)
    assert len(classifier_workload(model, samples, train=True).run().gradients) == 4
    assert model.training
    workload = classifier_workload(model, samples, train=False)
    assert workload.run().gradients == ()
    assert not model.training
    assert sum(x.nbytes for x in workload.given) > samples.nbytes

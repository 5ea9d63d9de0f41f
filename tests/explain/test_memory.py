"""Neither factor is ever in memory as a whole, whatever is asked that has no such size itself."""

from typing import Any

import pytest
import torch

from crosshead import InteractiveAttention
from crosshead.explain import (
    factors,
    head_diversity,
    landmark_readers,
    landmark_sources,
    listening,
    map_columns,
    map_rows,
    record,
    relevance,
    rollout,
    through_other_heads,
)
from crosshead.testing.memory import peak_allocated_bytes

HEADS, SIDE, LANDMARKS, DIM = 8, 64, 8, 32
FACTOR = 4 * HEADS * SIDE**2 * LANDMARKS**2
QUESTIONS = {
    "row": lambda recording, score: map_rows(recording[0], 5),
    "column": lambda recording, score: map_columns(recording[0], 5),
    "sources": lambda recording, score: landmark_sources(recording[0], (1, 2)),
    "readers": lambda recording, score: landmark_readers(recording[0], (1, 2)),
    "listening": lambda recording, score: listening(recording[0]),
    "through other heads": lambda recording, score: through_other_heads(recording[0]),
    "diversity": lambda recording, score: head_diversity(recording[0]),
    "rollout": lambda recording, score: rollout(recording),
    "relevance": lambda recording, score: relevance(recording, score),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_takes_a_fifth_of_a_factor(question, monkeypatch):
    monkeypatch.setattr(factors, "TILE_ELEMENTS", FACTOR // 4 // 128)
    layer = InteractiveAttention(DIM, HEADS, landmarks=LANDMARKS, impl="streamed").eval()
    with record(layer, gradients=True) as recording:
        score = layer(torch.randn(1, SIDE**2, DIM), grid=(SIDE, SIDE)).square().sum()
    # Of relevance, the backward pass of the layer is the layer's.
    base = 0
    if question == "relevance":
        output: Any = recording[0].output
        base = peak_allocated_bytes(lambda: torch.autograd.grad(score, output, retain_graph=True))
    used = peak_allocated_bytes(lambda: QUESTIONS[question](recording, score)) - base
    assert 0 < used < FACTOR / 5


def test_a_recording_takes_the_tokens_alone():
    layer = InteractiveAttention(DIM, HEADS, landmarks=LANDMARKS).eval()
    x = torch.randn(1, SIDE**2, DIM)
    with torch.no_grad(), record(layer) as recording:
        layer(x, grid=(SIDE, SIDE))
    assert x.nbytes < recording.nbytes < 1.1 * x.nbytes

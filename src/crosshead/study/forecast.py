"""How long a study will take, from a few steps of every candidate."""

import time
from collections.abc import Callable, Sequence

import torch
from torch.nn import functional as F

from crosshead.study.backbone import build_model, random_input
from crosshead.study.execution import Place
from crosshead.study.ledger import Ledger
from crosshead.study.plans import Candidate, unfinished
from crosshead.study.trial import BANDS

STEPS = 2


def forecast_seconds(
    found: Sequence[Candidate],
    ledger: Ledger,
    place: Place,
    *,
    tell: Callable[[str], object] = lambda attention: None,
) -> float:
    """About how many seconds the unfinished trials take, from two steps of each candidate after a first.

    Args:
        found: what is compared.
        ledger: what is finished.
        place: where trials run; `place.jobs` trainings are taken to run side by side.
        tell: told which mechanism is being tried.

    Raises:
        ValueError: a model that cannot be built.
    """
    total = 0.0
    for candidate in found:
        open_selection = unfinished(candidate.selecting(), ledger)
        tested = candidate.testing(ledger)
        open_tests = len(unfinished(tested, ledger)) if tested else candidate.options.seeds
        samples = len(open_selection) * candidate.select_samples + open_tests * candidate.trial.samples
        if samples:
            tell(candidate.attention)
            total += samples * _seconds_per_sample(candidate, place)
    return total / place.jobs


def _seconds_per_sample(candidate: Candidate, place: Place) -> float:
    trial, shape = candidate.trial, candidate.trial.shape
    before = torch.get_num_threads()
    torch.set_num_threads(place.threads)
    try:
        with torch.random.fork_rng(devices=[]):
            sizes = {"in_chans": BANDS[trial.data]}
            model = build_model(trial.data, trial.attention, shape, num_classes=2, **sizes).to(place.device)
            images = random_input(trial.data, shape, batch=trial.batch_size, device=place.device, **sizes)
            targets = torch.zeros(trial.batch_size, dtype=torch.long, device=place.device)
            for step in range(STEPS + 1):
                if step == 1:
                    started = time.perf_counter()
                loss = F.cross_entropy(model(images), targets)
                loss.backward()
                loss.item()
        return (time.perf_counter() - started) / (STEPS * trial.batch_size)  # pyright: ignore
    finally:
        torch.set_num_threads(before)

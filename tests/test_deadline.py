"""When a net's training must end: tracing comes once for all folds, and is not counted against the first one's time."""

import math

import pytest

from tunekit.families import deadline as module
from tunekit.families.deadline import Deadline


class Hands:
    """Of a clock that the test moves."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Hands:
    hands = Hands()
    monkeypatch.setattr(module, "time", hands)
    return hands


def after_epochs(hands: Hands, ends: list[float], *given: float) -> Deadline:
    """A deadline after epochs that ended so many seconds after it was made."""
    made = Deadline(*given)
    for end in ends:
        hands.now = 100.0 + end
        made.epoch_ended()
    return made


@pytest.mark.parametrize(
    ("ends", "left"),
    [
        ([], 18.0),  # nobody knows yet what tracing takes
        ([6.0], 12.0),
        ([6.0, 7.0], 8.0),  # an epoch takes 1 s, tracing took 5 s: 10 + 5 - 7
        ([6.0, 7.0, 9.0], 6.0),  # a slow epoch later on is no tracing
        ([2.0, 4.0], 6.0),  # the first was no slower than the second
        ([1.0, 4.0], 6.0),  # nor is tracing ever less than nothing
        ([15.0, 16.0], 2.0),  # it took longer than it may be given: 10 + 8 - 16
        ([20.0], -2.0),
    ],
)
def test_tracing_is_added_to_the_time_of_the_first_fold(hands: Hands, ends: list[float], left: float) -> None:
    assert after_epochs(hands, ends, 10.0, 8.0).left == pytest.approx(left)


def test_later_folds_get_nothing_more(hands: Hands) -> None:
    assert after_epochs(hands, [6.0, 7.0], 10.0).left == pytest.approx(3.0)


@pytest.mark.parametrize(("ends", "pace"), [([], None), ([6.0], None), ([6.0, 7.0], 1.0), ([6.0, 7.0, 9.0, 15.0], 3.0)])
def test_the_pace_is_that_of_the_epochs_after_the_first(hands: Hands, ends: list[float], pace: float | None) -> None:
    assert after_epochs(hands, ends, 10.0).pace == pace


def test_without_an_end_there_is_always_time_left(hands: Hands) -> None:
    assert after_epochs(hands, [6.0, 7.0], math.inf, math.inf).left == math.inf

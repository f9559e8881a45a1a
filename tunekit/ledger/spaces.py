"""A family's space over time: its factory may be changed between two runs of a search.

Drivers read what Optuna knows of earlier trials, and that is in the terms of the space of their time: a choice that
was added since makes another hyperparameter of it, and a position on a grid stands for another value on a new one. So
what they are shown is put in the terms of today. The database keeps what was written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from tunekit.drivers.translate import distribution_of, key_of, to_stored
from tunekit.ledger.memory import copied
from tunekit.space import Dimension
from tunekit.trial import State, Trial

TOLD = (State.COMPLETE, State.STOPPED)
"""States of trials that a driver learns from."""

Form = tuple[Any, ...]


class FamilySpace:
    """What the trials of one family were asked for, program by program.

    A factory may ask for other bounds from trial to trial; these are shown as they are. But where a program asks for
    one thing only, and an earlier one asked for another, the factory was changed.

    Args:
        trials: that ended in earlier searches, by number.
        program: digest of the study file that is searched with now.
    """

    def __init__(self, trials: Sequence[Trial], program: str) -> None:
        self._asked: dict[str, dict[int, dict[Form, Dimension]]] = {}
        self._earlier = [trial for trial in trials if trial.state in TOLD]
        self._compared = not self._earlier or self._earlier[-1].program == program
        self._turn, last = 0, None  # a program may come again, after another one
        for trial in self._earlier:
            self._turn += last is not None and trial.program != last
            last = trial.program
            for dimension in trial.dimensions:
                self.ask(dimension)
        self._turn += last is not None and program != last
        self._told = {key: form_of(dimension) for key, dimension in self.changed().items()}

    def ask(self, dimension: Dimension) -> bool:
        """Take note of what a trial is asked for; whether that is new for this program."""
        forms = self._asked.setdefault(dimension.key, {}).setdefault(self._turn, {})
        new = form_of(dimension) not in forms
        forms[form_of(dimension)] = dimension
        return new

    def changed(self) -> dict[str, Dimension]:
        """The dimensions that were changed, as they are now, by key."""
        found = {}
        for key, turns in self._asked.items():
            *before, last = sorted(turns)
            if len(turns[last]) > 1:
                continue
            [(form, dimension)] = turns[last].items()
            varied = any(len(turns[turn]) > 1 and form in turns[turn] for turn in before)
            if not varied and any(set(turns[turn]) != {form} for turn in before):
                found[key] = dimension
        return found

    def news(self, family: str) -> list[str]:
        """What is to be said about dimensions that were changed since this was asked last."""
        texts = []
        for key, dimension in self.changed().items():
            if self._told.get(key) != form_of(dimension):
                self._told[key] = form_of(dimension)
                texts += self._tell(family, key, dimension)
        return texts

    def compare(self, family: str, trial: Trial) -> list[str]:
        """What is to be said about hyperparameters that came or went, by the first trial of a program that has all."""
        if self._compared:
            return []
        self._compared = True
        keys = {dimension.key for dimension in trial.dimensions}
        before = [{dimension.key for dimension in one.dimensions} for one in self._earlier]
        count = f"{len(before)} earlier trial{'s' if len(before) > 1 else ''}"
        texts = []
        if new := sorted(keys - set().union(*before)):
            texts.append(f"{family}: {_listed(new)} new; the {count} had no such hyperparameter, and still count")
        if gone := sorted(set.intersection(*before) - keys):
            texts.append(f"{family}: {_listed(gone)} not asked for any more; the {count} had it, and still count")
        return texts

    def _tell(self, family: str, key: str, dimension: Dimension) -> list[str]:
        having = [(trial, own) for trial in self._earlier if (own := asked(trial, key)) is not None]
        others = {form_of(own): own for _, own in having if form_of(own) != form_of(dimension)}
        if not others:
            return []
        unfit = [trial.number for trial, own in having if not dimension.contains(trial.values[own.name])]
        was = " and ".join(span(own) for own in others.values())
        fits = f"{len(having) - len(unfit)} of {len(having)} earlier trials fit and still count"
        rest = f"; {_numbers(unfit)} can't guide the search any more" if unfit else ""
        return [f"{family}: {key} is {span(dimension)} now, was {was}: {fits}{rest}"]


def expressed(raw: FrozenTrial, trial: Trial, changed: Mapping[str, Dimension]) -> FrozenTrial:
    """A trial as a driver is to see it: in the terms of dimensions that were changed since.

    One with a value that can't be any more is shown as one that failed: its score belongs to another place.
    """
    new = copied(raw)
    params, distributions = new.params, new.distributions
    new.params, new.distributions = {}, {}
    for name, stored in params.items():
        dimension, own = changed.get(key_of(name)), asked(trial, key_of(name))
        if dimension is None or own is None:
            new.params[name], new.distributions[name] = stored, distributions[name]
        elif form_of(own) == form_of(dimension):
            new.params[dimension.key], new.distributions[dimension.key] = stored, distributions[name]
        elif dimension.contains(trial.values[own.name]):
            new.params[dimension.key] = to_stored(dimension, trial.values[own.name])
            new.distributions[dimension.key] = distribution_of(dimension)
        else:
            return _hidden(new)
    return new


def asked(trial: Trial, key: str) -> Dimension | None:
    """The dimension of a key, as a trial was asked for it."""
    return next((one for one in trial.dimensions if one.key == key), None)


def form_of(dimension: Dimension) -> Form:
    """All that says which values there are, and how they are stored."""
    return (
        dimension.kind,
        dimension.low,
        dimension.high,
        dimension.step,
        dimension.sampling,
        dimension.choices,
    )


def span(dimension: Dimension) -> str:
    """Which values there are, in a few words.

    >>> span(Dimension("units", "int", 64, 32, 512, step=2, sampling="log"))
    '32..512 (log, step 2)'
    """
    if dimension.kind not in ("int", "float"):
        return str(list(dimension.choices))
    low, high = dimension.bounds
    how = [] if dimension.sampling == "linear" else [dimension.sampling]
    how += [] if dimension.step is None else [f"step {dimension.step:g}"]
    return f"{low:g}..{high:g}" + (f" ({', '.join(how)})" if how else "")


def _hidden(trial: FrozenTrial) -> FrozenTrial:
    trial.params, trial.distributions = {}, {}
    if trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
        trial.state, trial.values = TrialState.FAIL, None
    return trial


def _listed(names: Sequence[str]) -> str:
    return f"{names[0]} is" if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]} are"


def _numbers(numbers: Sequence[int], most: int = 10) -> str:
    told = ", ".join(f"{number:03d}" for number in numbers[:most])
    return told + (f" and {len(numbers) - most} more" if len(numbers) > most else "")

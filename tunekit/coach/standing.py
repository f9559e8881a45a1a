"""Where a search stands: against the baseline and cheap models, in the noise, and before its next hour."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from tunekit.coach.changes import families_line, split_line
from tunekit.coach.finding import Finding
from tunekit.coach.members import FAIR
from tunekit.coach.noise import difference
from tunekit.coach.progress import next_hour
from tunekit.coach.searched import Searched
from tunekit.data.split import KFold, TimeSplit
from tunekit.families import NetFamily
from tunekit.study.blend import BASELINE
from tunekit.tracking.standings import score_text

ENOUGH = 10
"""Complete trials from which on something is said about how they differ."""

LITTLE = 0.05
"""Of what a net gains over the baseline: if it gains no more than this over a cheap model, that one does as well."""

SMALL = 0.01
"""Of what was gained over the baseline: less is not worth another hour."""

FEWEST_BEST = 4
"""Of the best trials, at least, are compared with each other; else a quarter of all."""


def baseline(searched: Searched) -> Iterator[Finding]:
    """Whether anything is better than the baseline.

    A gain that may be chance is no proof that there is nothing to gain: then it is a hint.
    """
    first = searched.best_of(BASELINE)
    best = searched.able[0] if searched.able else None
    if first is None or best is None:
        return
    found = difference(best, first, searched.prepared)
    told = (
        f"The best trial, {best.name}, has {searched.metric} {score_text(best.score)}, the baseline "
        f"{score_text(first.score)}"
    )
    if found is not None:
        told += (
            f"; over the folds the gain is {score_text(found.gain)} ± {score_text(found.error)} (chance "
            f"{found.chance:.2g})"
        )
    if searched.learnt(best.family):
        yield Finding("good", "beats-baseline", "better than the baseline", f"{told}.")
    else:
        text = (
            f"{told}. The columns may say little about the target, or the rows may be too few: look at the data first."
        )
        if searched.gain(best.score or 0.0, first.score or 0.0) > 0:
            yield Finding("hint", "no-better-than-baseline", "not shown to beat the baseline", text)
        else:
            yield Finding("problem", "no-better-than-baseline", "nothing beats the baseline", text)


def cheap(searched: Searched) -> Iterator[Finding]:
    """Whether deep models are better than cheap ones, where the cheap ones have learnt something."""
    names = [family.name for family in searched.study.families if family.cheap and family.name != BASELINE]
    nets = [family.name for family in searched.study.families if isinstance(family, NetFamily)]
    tried = Counter(trial.family for trial in searched.trials if trial.same_as is None)
    deep = [name for name in nets if tried[name] >= FAIR]
    first, other, start = searched.best_of(*names), searched.best_of(*deep), searched.best_of(BASELINE)
    if first is None or other is None or start is None or not searched.learnt(first.family):
        return
    found = difference(other, first, searched.prepared)
    if found is None or found.better:
        return
    gained = searched.gain(first.score or 0.0, start.score or 0.0)
    if found.gain + 2 * found.error > LITTLE * gained:
        return  # it may well be better: that it is not shown to be says little
    told = (
        f"{first.name} has {searched.metric} {score_text(first.score)}, the best net, {other.name}, "
        f"{score_text(other.score)}: over the folds the net "
    )
    if found.gain > 0:
        told += f"gains {score_text(found.gain)} ± {score_text(found.error)}, at most {LITTLE:.0%} of what "
        told += f"{first.name} gains over the baseline."
    else:
        told += f"is worse by {score_text(abs(found.gain))} ± {score_text(found.error)}."
    told += f" The cheap one takes {first.seconds:.1f} s, the net {other.seconds:.1f} s."
    weights = _weights(searched)
    if any(weights.get(name, 0.0) > 0 for name in deep):
        told += " The blend still gains from nets."
        change = ""
    else:
        change = families_line(searched.study, without=deep)
    which = "the nets" if len(deep) == len(nets) else ", ".join(deep)
    yield Finding("hint", "cheap-as-good", f"{first.family} does as well as {which}", told, change)


def _weights(searched: Searched) -> dict[str, float]:
    """Of the families in the blend."""
    found: dict[str, float] = {}
    for member in (searched.summary.get("ensemble") or {"members": []})["members"]:
        found[member["family"]] = found.get(member["family"], 0.0) + float(member["weight"])
    return found


def noise(searched: Searched) -> Iterator[Finding]:
    """Whether the best trials differ by more than noise."""
    if len(searched.able) < ENOUGH:
        return
    best, *others = searched.able[: max(FEWEST_BEST, len(searched.able) // 4)]
    found = [difference(best, other, searched.prepared) for other in others]
    if not all(one is not None and one.within for one in found):
        return
    errors = [one.error for one in found if one is not None]
    told = (
        f"The best {len(others) + 1} of {len(searched.able)} trials, from {score_text(best.score)} ({best.name}) to "
        f"{score_text(others[-1].score)}, differ by less than the standard errors of these differences over the folds, "
        f"{score_text(min(errors))} to {score_text(max(errors))}: which of them is first, is mostly chance. More "
        "trials help little; more rows that judge do."
    )
    split = searched.prepared.split
    change = ""
    if isinstance(split, KFold) and not isinstance(split, TimeSplit):
        change = split_line(replace(split, repeats=3 * split.repeats))
    yield Finding("hint", "noise", "noise is larger than what trials differ by", told, change)


def converged(searched: Searched) -> Iterator[Finding]:
    """What another hour can be expected to gain."""
    found = next_hour(searched.trials, searched.prepared.metric.direction)
    first = searched.best_of(BASELINE)
    if found is None or first is None or not searched.able:
        return
    gained = searched.gain(searched.able[0].score or 0.0, first.score or 0.0)
    if gained <= 0:
        return
    share = found.high / gained
    told = (
        f"Another hour, some {found.trials:,} trials, is expected to gain {score_text(found.gain)} of "
        f"{searched.metric} (90%: {score_text(found.low)} to {score_text(found.high)}), {found.gain / gained:.1%} of "
        f"what the search has gained over the baseline, by the tail of the last {found.seen} trials."
    )
    if share < SMALL:
        yield Finding("good", "converged", "the search has converged", told)
    elif found.low / gained > SMALL:
        yield Finding("hint", "goes-on", "more time would gain more", told, 'study.run(budget="1h")')

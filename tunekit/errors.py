"""The one tree of errors. Each message says what was received, what was expected and how to fix it.

TunekitError
├── DataError          rows, columns or a target that cannot be used
├── SpaceError         a search space that contradicts itself
├── MetricError        an unknown metric, or one that does not fit the task
├── StudyError         a study that cannot start, or does not fit what its ledger holds
├── FactoryError       a user's model factory returned something that cannot be trained
├── TrialError         one trial failed; the search goes on
├── ExportError        a blend that cannot be written as a bundle that predicts the same
└── BundleError        a bundle that is damaged, foreign, or asked to predict unsuitable rows
"""

from __future__ import annotations


class TunekitError(Exception):
    """Root of every error that tunekit raises on purpose."""


class DataError(TunekitError, ValueError):
    """Rows, columns or a target that cannot be used; a `ValueError`, as scikit-learn's callers expect."""


class SpaceError(TunekitError):
    """A search space that contradicts itself."""


class MetricError(TunekitError):
    """An unknown metric, or one that does not fit the task."""


class StudyError(TunekitError):
    """A study that cannot start, or that does not fit what its ledger holds."""


class FactoryError(TunekitError):
    """A user's model factory returned something that cannot be trained."""


class TrialError(TunekitError):
    """One trial failed; the search goes on."""


class ExportError(TunekitError):
    """A blend that cannot be written as a bundle that predicts the same."""


class BundleError(TunekitError):
    """A bundle that is damaged or foreign, or was asked to predict unsuitable rows."""

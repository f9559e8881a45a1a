"""`TunekitClassifier` and `TunekitRegressor`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils import assert_all_finite, column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from tunekit.estimators.base import TunekitEstimator
from tunekit.estimators.rows import TypedRows, given, weighing
from tunekit.estimators.splitting import often_enough


class TunekitClassifier(ClassifierMixin, TunekitEstimator):  # type: ignore[misc]
    """A search over families of classifiers, blended, as an estimator of scikit-learn.

    `fit` runs a `tk.Study` and keeps its bundle: `predict` needs no TensorFlow, and a fitted estimator can be pickled.
    Rows are a DataFrame, whose columns may be categories, texts, dates and booleans, with missing values, or an array
    of numbers in which NaN is missing. Rows of a class that has fewer than four are used several times, weighing as
    much together as they did.

    Args:
        budget: time of a `fit`, such as "2m" or seconds. Ten minutes if there is no `trials` either.
        families: what is searched, such as `[tk.Linear(), tk.XGBoost()]`; what suits a table if None.
        trials: how many; with it, without a budget, and with `workers=1` and a `random_state`, a fit gives the same
            model each time.
        metric: what trials are judged by, as for `tk.Study`: a function of (y_true, y_pred) gets the positions of
            classes in `classes_`, and smaller is better.
        split: which rows train and judge; if None, what suits the rows, as for `tk.Study`, with a twentieth of them for
            the verdict: fewer folds, and a larger share, where rows are few.
        workers: trials at a time; one per core if None.
        root: a folder where the searches stay, each under a name of its own: the same search is then resumed, also one
            that Ctrl-C ended. If None, nothing stays but the bundle.
        random_state: an int, a `numpy.random.RandomState` or None, as anywhere in scikit-learn; with `root`, None is 0,
            for another seed is another search.
        verbose: show the search on the console.

    Attributes:
        classes_: (K,) the classes in order.
        n_features_in_: number of columns.
        feature_names_in_: their names, if they came with a DataFrame.
        bundle_: the `tk.Bundle` that predicts.
        summary_: what `tunekit show --json` prints: trials, blend and verdict.

    >>> model = TunekitClassifier(budget="2m", random_state=0)
    >>> model.get_params()["budget"]
    '2m'
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> TunekitClassifier:
        """Search, blend and keep the bundle.

        Args:
            X: (n, columns), a DataFrame or an array.
            y: (n,) classes.
            sample_weight: (n,) not negative; a row that weighs 0 is left out.

        Raises:
            ValueError: X, y or the weights can't be used.
            TunekitError: the search can't start, or has found nothing in its budget.
        """
        frame = self._checked(X, reset=True)
        y = column_or_1d(given(y), warn=True)
        assert_all_finite(y, input_name="y")
        check_classification_targets(y)
        frame, y, weight = weighing(frame, y, sample_weight)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y has one class, {self.classes_[0]!r}; expected at least two classes")
        rows, copied = often_enough(labels)
        if copied is not None:
            weight = copied if weight is None else copied * weight[rows]
            frame, labels = frame.iloc[rows].reset_index(drop=True), labels[rows]
        names = _names(self.classes_)
        numeric = not isinstance(X, pd.DataFrame)
        self._search(TypedRows.of(frame, np.array(names)[labels], weight, classes=names, numeric=numeric))
        return self

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Predict the class of each row.

        Args:
            X: (n, columns), as in `fit`.

        Returns:
            (n,): of two classes the second one from a probability of `bundle_.threshold` on, which is tuned where the
            metric counts decisions, as F1 does, and else a half; of more, the most probable one.
        """
        shares = self.predict_proba(X)
        second = (shares[:, 1] >= self.bundle_.threshold).astype(np.int64)
        positions = shares.argmax(axis=1) if shares.shape[1] > 2 else second
        return np.asarray(self.classes_[positions])

    def predict_proba(self, X: Any) -> npt.NDArray[np.float64]:
        """Predict the probability of each class.

        Args:
            X: (n, columns), as in `fit`.

        Returns:
            (n, K), in the order of `classes_`.
        """
        return self._predicted(X, shares=True)


def _names(classes: npt.NDArray[Any]) -> list[Any]:
    """The classes as a bundle can hold them; their positions where one is a blank text, which is no value there."""
    plain = classes.tolist()
    if classes.dtype.kind in "biuf":
        return plain if classes.dtype.kind == "b" else [int(one) for one in plain]
    texts = all(isinstance(one, str) and one.strip() for one in plain)
    return plain if texts else list(range(len(plain)))


class TunekitRegressor(RegressorMixin, TunekitEstimator):  # type: ignore[misc]
    """A search over families of regressors, blended, as an estimator of scikit-learn.

    `fit` runs a `tk.Study` and keeps its bundle: `predict` needs no TensorFlow, and a fitted estimator can be pickled.
    Rows are a DataFrame, whose columns may be categories, texts, dates and booleans, with missing values, or an array
    of numbers in which NaN is missing.

    Args:
        budget: see `TunekitClassifier`, as all that follows.
        families: the same.
        trials: the same.
        metric: the same, of (y_true, y_pred) with numbers.
        split: the same.
        workers: the same.
        root: the same.
        random_state: the same.
        verbose: the same.

    Attributes:
        n_features_in_: number of columns.
        feature_names_in_: their names, if they came with a DataFrame.
        bundle_: the `tk.Bundle` that predicts.
        summary_: what `tunekit show --json` prints: trials, blend and verdict.

    >>> model = TunekitRegressor(trials=10, random_state=0)
    >>> model.get_params()["trials"]
    10
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> TunekitRegressor:
        """Search, blend and keep the bundle.

        Args:
            X: (n, columns), a DataFrame or an array.
            y: (n,) finite numbers.
            sample_weight: (n,) not negative; a row that weighs 0 is left out.

        Raises:
            ValueError: X, y or the weights can't be used.
            TunekitError: the search can't start, or has found nothing in its budget.
        """
        frame = self._checked(X, reset=True)
        y = column_or_1d(given(y), dtype=np.float64, warn=True)
        assert_all_finite(y, input_name="y")
        frame, y, weight = weighing(frame, y, sample_weight)
        numeric = not isinstance(X, pd.DataFrame)
        self._search(TypedRows.of(frame, y, weight, classes=None, numeric=numeric))
        return self

    def predict(self, X: Any) -> npt.NDArray[np.float64]:
        """Predict the value of each row.

        Args:
            X: (n, columns), as in `fit`.

        Returns:
            (n,) numbers.
        """
        return self._predicted(X)

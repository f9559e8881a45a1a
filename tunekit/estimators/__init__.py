"""A study with scikit-learn's face."""

from tunekit.estimators.estimators import TunekitClassifier, TunekitRegressor

__all__ = ["TunekitClassifier", "TunekitRegressor"]

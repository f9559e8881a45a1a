"""A bundle as a model of MLflow's. MLflow copies this file into the model and runs it where that is loaded.

There may be no tunekit there, nor TensorFlow: the model brings the few files that read a bundle.
"""

from __future__ import annotations

import sys
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel


class BundleModel(PythonModel):
    """Predicts as `tunekit predict` does: columns `prediction` and, for classes, `proba_<class>`."""

    def load_context(self, context: Any) -> None:
        """Load the bundle. MLflow wants the argument to be called so."""
        try:
            from tunekit.bundle import Bundle
        except ImportError:
            sys.path.append(context.artifacts["reader"])  # at the end, where it hides nothing
            from tunekit.bundle import Bundle
        self._bundle = Bundle.load(context.artifacts["bundle"], files=False)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Predict rows, as `Bundle.predict` takes them."""
        del context, params
        return pd.DataFrame(self._bundle.predict_columns(model_input))


set_model(BundleModel())

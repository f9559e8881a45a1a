"""What a server for families without TensorFlow imports once. Imports only: children inherit what runs here."""

from contextlib import suppress

import sklearn.ensemble
import sklearn.linear_model
import xgboost

__all__ = ["sklearn", "xgboost"]

# 0.04 and 0.03 s more, where they are installed; where one can't be loaded, its family said so to who constructed it.
with suppress(ImportError, OSError):
    import lightgbm  # noqa: F401
with suppress(ImportError, OSError):
    import catboost  # noqa: F401

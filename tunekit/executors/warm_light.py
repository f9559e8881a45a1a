"""What a server for families without TensorFlow imports once. Imports only: children inherit what runs here."""

import sklearn.ensemble
import sklearn.linear_model
import xgboost

__all__ = ["sklearn", "xgboost"]

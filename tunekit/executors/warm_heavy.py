"""What a server for nets imports once. Imports only: a TensorFlow operation here would deadlock every child."""

import keras
import sklearn.metrics
import tensorflow

__all__ = ["keras", "sklearn", "tensorflow"]

"""The search space: dimensions, and the recorder that a model factory calls."""

from tunekit.space.dimension import SAMPLINGS, Dimension, Suggest, Value, space_size, use_default
from tunekit.space.hyperparameters import HyperParameters, NoValueError

__all__ = [
    "SAMPLINGS",
    "Dimension",
    "HyperParameters",
    "NoValueError",
    "Suggest",
    "Value",
    "space_size",
    "use_default",
]

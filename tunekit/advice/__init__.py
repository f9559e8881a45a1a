"""What the trials of a search tell about its hyperparameters."""

from tunekit.advice.advice import Advice, advise

__all__ = ["Advice", "advise"]

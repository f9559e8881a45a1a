"""Who proposes values."""

from tunekit.drivers.base import Driver, ProposalSampler
from tunekit.drivers.cost import ProposalCost
from tunekit.drivers.grid import Grid
from tunekit.drivers.hyperopt import Hyperopt
from tunekit.drivers.keras_tuner import KerasTuner
from tunekit.drivers.optuna import Optuna, Random
from tunekit.drivers.registry import DRIVERS, DriverLike, find_driver

__all__ = [
    "DRIVERS",
    "Driver",
    "DriverLike",
    "Grid",
    "Hyperopt",
    "KerasTuner",
    "Optuna",
    "ProposalCost",
    "ProposalSampler",
    "Random",
    "find_driver",
]

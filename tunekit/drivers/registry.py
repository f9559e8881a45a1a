"""Every driver by its name on the command line."""

from __future__ import annotations

import optuna

from tunekit.drivers.base import Driver
from tunekit.drivers.grid import Grid
from tunekit.drivers.hyperopt import Hyperopt
from tunekit.drivers.keras_tuner import HYPERBAND, KerasTuner
from tunekit.drivers.optuna import Optuna, Random
from tunekit.errors import StudyError

DRIVERS: dict[str, Driver] = {
    driver.name: driver
    for driver in (
        Random(),
        Grid(),
        *(Optuna(algorithm) for algorithm in ("tpe", "tpe-group", "gp", "cmaes", "nsgaii", "qmc", "random")),
        *(Hyperopt(algorithm) for algorithm in ("tpe", "atpe", "anneal", "random")),
        *(KerasTuner(algorithm) for algorithm in ("bayesian", "random")),
    )
}
"""Every driver by its name on the command line. Some need packages that may be missing: see `Driver.check`."""


DriverLike = str | Driver | optuna.samplers.BaseSampler
"""What `find_driver` understands."""


def find_driver(wanted: DriverLike) -> Driver:
    """The driver of a name, or around a sampler of Optuna's; a driver is returned as it is.

    Raises:
        StudyError: there is none of this name, or it can't be used here.

    >>> find_driver("optuna:tpe").name
    'optuna:tpe'
    """
    if isinstance(wanted, optuna.samplers.BaseSampler):
        return Optuna(wanted)
    if isinstance(wanted, Driver):
        driver = wanted
    elif wanted in DRIVERS:
        driver = DRIVERS[wanted]
    elif wanted == "keras-tuner:hyperband":
        raise StudyError(HYPERBAND)
    else:
        raise StudyError(f"driver {wanted!r} is unknown; expected one of {', '.join(sorted(DRIVERS))}")
    driver.check()
    return driver

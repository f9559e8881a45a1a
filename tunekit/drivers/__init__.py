"""Who proposes values."""

from tunekit.drivers.base import DRIVERS, Driver, Optuna, ProposalSampler, Random, find_driver

__all__ = ["DRIVERS", "Driver", "Optuna", "ProposalSampler", "Random", "find_driver"]

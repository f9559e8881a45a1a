"""Export: the whole blend with its preparation as one bundle, compared with the Python models before it is kept."""

from tunekit.export.parity import Parity
from tunekit.export.plan import BlendPlan, Member
from tunekit.export.training_on import write_models
from tunekit.export.writer import write_bundle

__all__ = ["BlendPlan", "Member", "Parity", "write_bundle", "write_models"]

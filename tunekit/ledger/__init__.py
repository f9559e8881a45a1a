"""The durable truth of a study: its trials, with predictions and models."""

from tunekit.ledger.family import Running
from tunekit.ledger.files import write_json
from tunekit.ledger.ledger import Ledger

__all__ = ["Ledger", "Running", "write_json"]

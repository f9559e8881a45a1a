"""The durable truth of a study: its trials, with predictions and models."""

from tunekit.ledger.files import write_json
from tunekit.ledger.ledger import Ledger, Running

__all__ = ["Ledger", "Running", "write_json"]

"""What leaves the house: a directory that predicts with numpy and onnxruntime alone."""

from tunekit.bundle.bundle import Bundle

__all__ = ["Bundle"]

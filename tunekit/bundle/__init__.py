"""What leaves the house: a directory that predicts with numpy and onnxruntime alone."""

from tunekit.bundle.bundle import Bundle, open_graph

__all__ = ["Bundle", "open_graph"]

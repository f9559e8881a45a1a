"""Serves a bundle over HTTP."""

from tunekit.serve.app import make_app
from tunekit.serve.run import serve

__all__ = ["make_app", "serve"]

"""Packages that a family needs and that are an extra of the installation."""

from __future__ import annotations

import importlib

from tunekit.errors import StudyError


def needs(package: str, family: str, extra: str = "gbdt") -> None:
    """Import a package, or say how to install it.

    Raises:
        StudyError: it is not installed, or what it needs of the system isn't there.
    """
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise StudyError(
            f"tk.{family}() needs the package {package}, which is not installed: pip install tunekit[{extra}], or "
            "leave this family out"
        ) from error
    except OSError as error:  # such as a missing libgomp
        raise StudyError(
            f"tk.{family}() needs the package {package}, which can't be loaded here ({error}): install what it lacks, "
            f"or pip install tunekit[{extra}] anew, or leave this family out"
        ) from error

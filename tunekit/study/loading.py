"""Loads a study file without loading TensorFlow: `import keras` at its top costs nothing until keras is used."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from tunekit.errors import StudyError, TunekitError
from tunekit.executors import travels_by_value
from tunekit.study.study import Study

LAZY = ("keras", "tensorflow")


class _LazyModule(ModuleType):
    """Stands in for a module until one of its names is used; in another process it is the module itself."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)

    def __reduce__(self) -> tuple[Any, ...]:
        return importlib.import_module, (self.__name__,)


@contextmanager
def _lazily_imported(names: tuple[str, ...]) -> Iterator[None]:
    stand_ins = {name: _LazyModule(name) for name in names if name not in sys.modules}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name, module in stand_ins.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


def _told(error: Exception, path: Path) -> str:
    """An exception of the file in words, with the last of its own lines that led there."""
    names = {str(path), str(path.absolute())}  # as Python's importer has it
    own = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename in names]
    place = f"{str(path)!r}, line {own[-1]}: " if own else f"{str(path)!r}: "
    if isinstance(error, TunekitError):
        return f"{place}{error}"
    return f"{place}{type(error).__name__}: {error}; expected a file that runs: `python {path}` shows more"


def load_study(path: Path | str) -> Study:
    """The study that a file declares: the one `Study` among its names.

    Args:
        path: of a Python file. Files beside it can be imported from it.

    Raises:
        StudyError: there is no such file, it fails, or it declares no study or several.
    """
    path = Path(path)
    if not path.is_file():
        raise StudyError(f"there is no study file {str(path)!r}; `tunekit init train.csv --target COLUMN` writes one")
    spec = importlib.util.spec_from_file_location(f"tunekit_study_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise StudyError(f"{str(path)!r} is not a Python file; expected one that declares `study = tk.Study(...)`")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(path.parent.resolve()))
    with _lazily_imported(LAZY):
        try:
            spec.loader.exec_module(module)
        except SyntaxError as error:  # in this file, or in one that it imports
            file = error.filename or str(path)
            raise StudyError(f"{file!r}, line {error.lineno}: {error.msg}; expected valid Python") from error
        except Exception as error:
            raise StudyError(_told(error, path)) from error
    travels_by_value(module)
    studies = {id(value): value for value in vars(module).values() if isinstance(value, Study)}
    if len(studies) != 1:
        raise StudyError(
            f"{str(path)!r} declares {len(studies)} studies; expected exactly one, such as `study = tk.Study(...)`"
        )
    return next(iter(studies.values()))

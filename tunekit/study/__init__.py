"""The study: its declaration, its search and its result."""

from tunekit.study.duration import parse_duration
from tunekit.study.earlier import from_study
from tunekit.study.loading import load_study
from tunekit.study.result import Result
from tunekit.study.starting import start_from
from tunekit.study.study import Study

__all__ = ["Result", "Study", "from_study", "load_study", "parse_duration", "start_from"]

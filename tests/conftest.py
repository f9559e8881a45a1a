"""What files of tests ask for by name, and the end of the time for all of them."""

import os
import time
from collections.abc import Iterator

import pytest

from tunekit.executors import servers_kept

END = float(os.environ.get("TESTS_END", "inf"))
"""The moment (`date +%s`) from which on no test is begun: CI has an hour, on a machine of whatever speed."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before any fixture of the test is made."""
    del item
    if time.time() > END:
        pytest.skip("the time for the tests is over: see TESTS_END")


@pytest.fixture(scope="module")
def kept_servers() -> Iterator[None]:
    """Searches and exports of a file's tests share the server that has imported TensorFlow, which takes ten seconds."""
    with servers_kept():
        yield

"""What files of tests ask for by name."""

from collections.abc import Iterator

import pytest

from tunekit.executors import servers_kept


@pytest.fixture(scope="module")
def kept_servers() -> Iterator[None]:
    """Searches and exports of a file's tests share the server that has imported TensorFlow, which takes ten seconds."""
    with servers_kept():
        yield

"""The public face: each name of `tunekit.__all__` is there, and nothing else is promised."""

import pytest

import tunekit


def test_the_public_names_are_sorted_and_said_once() -> None:
    assert tunekit.__all__ == sorted(set(tunekit.__all__))
    assert dir(tunekit) == tunekit.__all__


@pytest.mark.parametrize("name", tunekit.__all__)
def test_each_public_name_resolves(name: str) -> None:
    assert getattr(tunekit, name) is not None


def test_an_unknown_name_is_refused_by_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Studdy'"):
        _ = tunekit.Studdy

"""One store and one server for all tests that only look."""

import pytest

from bloomery.store import Store
from tests.web.ui.filled import fill
from tests.web.ui.places import served, small_store


@pytest.fixture(scope="session")
def looked_at(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("store"))
    small_store(store)
    return store


@pytest.fixture(scope="session")
def corpora(looked_at):
    """The store is filled with all else; the references of its corpora."""
    return fill(looked_at)


@pytest.fixture(scope="session")
def address(looked_at, corpora):
    with served(looked_at) as url:
        yield url

"""One server for all tests that leave it as it is."""

import pytest

from tests.web.house import House, house, wait_until


@pytest.fixture(scope="session")
def there():
    with house() as running:
        yield running


@pytest.fixture
def idle(there: House):
    """It, with nothing under way before and after."""
    yield there
    wait_until(lambda: there.served.worker.engine.live == there.served.worker.engine.waiting == 0)

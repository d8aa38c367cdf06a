import pytest

from tests.stages.record.corpora import record_of


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    return record_of(tmp_path_factory.mktemp("corpus"))

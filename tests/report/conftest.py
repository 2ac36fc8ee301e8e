"""The directories that all tests of reports read."""

import pytest

from tests.report.samples import make_all


@pytest.fixture(scope="session")
def stored(tmp_path_factory):
    """A folder with all of `samples`."""
    return make_all(tmp_path_factory.mktemp("stored"))

"""One whole run for all tests of this folder."""

import pytest
from whole_runs import kedro_run


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The data root of one whole run, and what it printed."""
    data_root = tmp_path_factory.mktemp("whole") / "data"
    done = kedro_run(data_root)
    return data_root, done.stdout + done.stderr

"""Names of runs and schedules, from templates."""

import re
from datetime import UTC, datetime

import pytest
from toy_kedro import toy_settings

from kedro_kfp.errors import SettingsError
from kedro_kfp.names import run_name, schedule_name
from kedro_kfp.settings import read_settings


def test_a_run_is_called_after_its_pipeline_environment_and_time():
    now = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
    assert run_name("{pipeline}-{env}-{date}-{time}", "toy", "cluster", now) == "toy-cluster-2026-03-04-050607"
    assert run_name("tuesday", "toy", "cluster") == "tuesday"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", run_name("{date}", "toy", "cluster"))
    assert schedule_name("{pipeline}@{env}", "toy", "cluster") == "toy@cluster"


@pytest.mark.parametrize(
    "template", ["{user}", "{pipeline", "{pipeline.__class__}", "{env!r}", "{date:>9}", "{}", "{0}"]
)
def test_a_template_of_what_is_not_known_is_refused_in_the_file_and_on_the_command_line(template):
    with pytest.raises(SettingsError, match="the name "):
        run_name(template, "toy", "cluster")
    with pytest.raises(SettingsError, match=r"run\.name"):
        read_settings(toy_settings(run={"name": template}))


def test_a_schedule_has_no_date_in_its_name_or_nobody_would_find_it_again():
    with pytest.raises(SettingsError, match=r"allowed are \{pipeline\}, \{env\}"):
        schedule_name("{pipeline}-{date}", "toy", "cluster")
    with pytest.raises(SettingsError, match=r"run\.schedule_name"):
        read_settings(toy_settings(run={"schedule_name": "{date}"}))

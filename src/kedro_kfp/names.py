"""Names of runs and schedules: templates of kubeflow.yml or the command line, filled in when a run is started."""

from __future__ import annotations

from datetime import UTC, datetime
from string import Formatter
from typing import Annotated

from pydantic import AfterValidator

from kedro_kfp.errors import SettingsError

_SCHEDULE_FIELDS = ("pipeline", "env")
_RUN_FIELDS = (*_SCHEDULE_FIELDS, "date", "time")


def run_name(template: str, pipeline: str, env: str, now: datetime | None = None) -> str:
    """A run's name; `{date}` and `{time}` are those of UTC. `SettingsError` where the template asks for more."""
    now = now or datetime.now(UTC)
    date, time = now.strftime("%Y-%m-%d"), now.strftime("%H%M%S")
    return _of_command_line(template, _RUN_FIELDS).format(pipeline=pipeline, env=env, date=date, time=time)


def schedule_name(template: str, pipeline: str, env: str) -> str:
    """A schedule's name, the same tomorrow: schedules are found again, and replaced, by their names."""
    return _of_command_line(template, _SCHEDULE_FIELDS).format(pipeline=pipeline, env=env)


def _of_command_line(template: str, allowed: tuple[str, ...]) -> str:
    try:
        return _checked(template, allowed)
    except ValueError as error:
        raise SettingsError(f"the name {error}") from error


def _checked(template: str, allowed: tuple[str, ...]) -> str:
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"{template!r} is no template: {error}. Next: close its braces") from error
    plain = all(not form and not conversion for _, field, form, conversion in parts if field is not None)
    if not plain or not {field for _, field, _, _ in parts if field is not None} <= set(allowed):
        known = ", ".join(f"{{{field}}}" for field in allowed)
        raise ValueError(f"{template!r} asks for what is not known; allowed are {known}. Next: use these only")
    return template


RunName = Annotated[str, AfterValidator(lambda template: _checked(template, _RUN_FIELDS))]
ScheduleName = Annotated[str, AfterValidator(lambda template: _checked(template, _SCHEDULE_FIELDS))]

"""How commands end that were refused: with the message and the error's exit code, and without a traceback."""

from __future__ import annotations

from typing import Any

import click

from kedro_kfp.errors import KedroKfpError


class _Refused(click.ClickException):
    def __init__(self, error: KedroKfpError) -> None:
        super().__init__(str(error))
        self.exit_code = error.exit_code  # type: ignore[misc]  # read from the instance


class Refusing(click.Group):
    """A group whose commands end with the message of what was refused, and its exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except KedroKfpError as error:
            raise _Refused(error) from error

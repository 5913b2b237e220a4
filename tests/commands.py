"""The ``mailstream`` command in the test's own process: a new one takes seconds to import what it needs."""

import os
from collections.abc import Mapping
from unittest import mock

from click.testing import CliRunner

from cli.main import mailstream
from cli.pipeline import Pipeline
from cli.settings import settings
from connectors.errors import MailstreamError


def command(running: Pipeline | Mapping[str, str], *arguments: str) -> tuple[int, str, str]:
    """Run it against a pipeline's servers, or with these environment variables.

    Returns its exit code, its output and its errors.
    """
    settings.cache_clear()
    environment = running.environment if isinstance(running, Pipeline) else running
    try:
        with mock.patch.dict(os.environ, environment):
            answer = CliRunner().invoke(mailstream, list(arguments), prog_name="mailstream")
    finally:
        settings.cache_clear()
    errors = answer.stderr
    if isinstance(answer.exception, MailstreamError):  # as ``cli.main.main`` says it
        errors += f"Error: {answer.exception}\n"
    elif answer.exception is not None and not isinstance(answer.exception, SystemExit):
        raise answer.exception
    return answer.exit_code, answer.stdout, errors

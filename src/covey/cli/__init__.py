"""The command ``covey``: one door to everything that is started from a shell.

Exit codes: 0 ok · 1 it failed · 2 wrong usage · 3 cannot connect · 130 interrupted.
``NO_COLOR`` is obeyed.
"""

from __future__ import annotations

import difflib
import os
import sys

import click

from covey.cli.asking import logs, metrics, tasks, workers
from covey.cli.doctor import doctor
from covey.cli.inspection import completion, config, status, stop
from covey.cli.profiling import profile
from covey.cli.roles import run_script, scheduler, start, worker
from covey.cli.token import token
from covey.cli.top import top
from covey.cli.watching import dashboard, export, report, telemetry, trace
from covey.errors import ClusterError, CoveyError, UsageError
from covey.version import VERSION


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="covey")
def group() -> None:
    """Spread Python work over cores and machines.

    \b
    covey scheduler                    on one machine
    covey worker HOST:8786             on each of them
    """


for _command in (
    *(scheduler, worker, start, run_script, status, stop, doctor, config),
    *(token, completion),
    *(top, dashboard, tasks, workers, logs, metrics, report, trace, export),
    *(profile, telemetry),
):
    group.add_command(_command)


def main() -> None:
    """Run the command; turn errors into one clear message and an exit code."""
    color = False if os.environ.get("NO_COLOR") else None
    try:
        group.main(standalone_mode=False, color=color)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        if isinstance(error, click.NoSuchOption):
            # What click suggests may have hardly a letter in common.
            near = difflib.get_close_matches(
                error.option_name, error.possibilities or (), cutoff=0.7
            )
            error = click.NoSuchOption(
                error.option_name, possibilities=near, ctx=error.ctx
            )
        error.show()
        sys.exit(error.exit_code)
    except UsageError as error:
        click.echo(f"covey: {error}", err=True)
        sys.exit(2)
    except (ClusterError, ConnectionError) as error:
        click.echo(f"covey: {error}", err=True)
        sys.exit(3)
    except CoveyError as error:
        click.echo(f"covey: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)

"""The commands about the console's login."""

from __future__ import annotations

import sys

import click

from labels.errors import LabelingError
from sync.settings import Home


@click.command()
@click.option("--stdin", "from_stdin", is_flag=True, help="Read it from standard input instead of asking.")
@click.pass_obj
def password(home: Home, from_stdin: bool) -> None:
    """Change the console's password, and log everybody out of it; Label Studio's own password stays as it is.

    Example: labelloop password
    """
    from sync.services.console_login import write_password

    if not home.secrets.is_dir():
        raise LabelingError(f"{home.path}: no home of labelloop, start one with: labelloop up")
    if from_stdin:
        chosen = sys.stdin.readline().rstrip("\r\n")
    else:
        chosen = click.prompt("New password of the console", hide_input=True, confirmation_prompt=True)
    write_password(home.secrets, chosen)
    click.echo("The console has a new password; whoever was logged in is logged out.")

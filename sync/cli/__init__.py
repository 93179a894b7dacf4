"""The ``labelloop`` command: options in, one job or one step of the stack, its report out.

The tools' own packages take seconds to import, so each command imports what it needs when it runs: help comes at once.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import click

from labels.errors import LabelingError
from sync.cli import (
    console_commands,
    duplicate_commands,
    embedding_commands,
    job_commands,
    mistake_commands,
    model_commands,
    promotion_commands,
    quality_commands,
    review_commands,
    run_commands,
    simulation_commands,
    stack_commands,
    sync_commands,
    training_commands,
    version_commands,
)
from sync.settings import Home


class Commands(click.Group):
    """Prints what a person can fix as one line, and leaves with 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except LabelingError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option(
    "--home",
    envvar="LABELLOOP_HOME",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".labelloop"),
    help="Folder that keeps all state; also LABELLOOP_HOME.",
)
@click.version_option(package_name="labelloop")
@click.pass_context
def main(ctx: click.Context, home: Path) -> None:
    """Closes the loop between Label Studio, where annotators draw, and FiftyOne, where curators explore.

    Example: labelloop up --images ~/photos
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    # Our own lines say both; torch's is about how it reads files that others wrote.
    warnings.filterwarnings("ignore", message="Image size .* pixels\\) exceeds limit")
    warnings.filterwarnings("ignore", message=".*torch.jit", category=FutureWarning)
    warnings.filterwarnings("ignore", message=".*torch.jit", category=DeprecationWarning)
    ctx.obj = Home(home.expanduser().absolute())


for command in (
    stack_commands.up,
    stack_commands.demo,
    stack_commands.down,
    stack_commands.status,
    stack_commands.app,
    stack_commands.reset,
    console_commands.password,
    job_commands.ingest,
    job_commands.prelabel,
    job_commands.push,
    job_commands.pull,
    version_commands.export,
    version_commands.versions,
    version_commands.diff,
    version_commands.verify_export,
    sync_commands.sweep,
    sync_commands.resolve,
    sync_commands.verify,
    review_commands.queue,
    review_commands.feedback,
    review_commands.relabel,
    mistake_commands.mistakes,
    model_commands.models,
    model_commands.predict,
    model_commands.compile_command,
    model_commands.calibrate,
    training_commands.train,
    promotion_commands.evaluate,
    promotion_commands.promote,
    promotion_commands.rollback,
    embedding_commands.embed,
    embedding_commands.visualize,
    embedding_commands.cluster,
    embedding_commands.outliers,
    embedding_commands.similarity,
    embedding_commands.search,
    embedding_commands.zeroshot,
    duplicate_commands.duplicates,
    simulation_commands.simulate,
    simulation_commands.report,
    quality_commands.quality,
    quality_commands.clean,
    run_commands.runs,
    run_commands.cancel,
    run_commands.retry,
):
    main.add_command(command)

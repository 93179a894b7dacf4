"""The commands of curation that decide: what is technically good enough, and whether images hold what is claimed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from fiftyone_plugins.quality.checks import ALL_CHECKS
from labels.errors import LabelingError
from sync.cli.running import run_here
from sync.cli.sample_options import sample_options, to_params
from sync.settings import Home

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)
OFF = "off"


def read_thresholds(texts: Sequence[str]) -> dict[str, float | None] | None:
    """Return the thresholds of texts such as ``dark=0.8`` or ``dark=off``; None: none was given.

    Raises:
        click.BadParameter: one is written otherwise.

    >>> read_thresholds(["dark=0.8", "blurry=off"])
    {'dark': 0.8, 'blurry': None}
    """
    found: dict[str, float | None] = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            found[name] = None if value == OFF else float(value)
        except ValueError as error:
            raise click.BadParameter(f"{text!r}: expected CHECK=NUMBER or CHECK={OFF}") from error
    return found or None


@click.command()
@click.option(
    "--threshold",
    "thresholds",
    multiple=True,
    metavar="CHECK=NUMBER",
    help=f"Trash from this score on, or =off; may be given several times. Checks: {', '.join(ALL_CHECKS)}.",
)
@click.option("--below", type=click.FloatRange(1, 10), help="Trash below this rating of AVA's scale of 1 to 10, as 6.")
@click.option("--worst", type=click.FloatRange(0, 100), metavar="PERCENT", help="Trash this part of the lowest rated.")
@click.option("--everything", is_flag=True, help="Measure anew what was measured.")
@click.option("--tag-trash", is_flag=True, help="Tag what is proposed as trash, after a look at how many that are.")
@click.option("--dry-run", is_flag=True, help="With --tag-trash: say how many would be tagged, and measure nothing.")
@click.option("--yes", is_flag=True, help="With --tag-trash: do not ask.")
@click.option("--undo", metavar="RUN", help="Take back a decision such as trash-1, or the 'last'.")
@click.option("--learn", metavar="VOTES", type=FILE, help="Learn to rate images from such votes, as AVA has them.")
@click.option("--examples", type=click.Choice(["checks", "people", "votes"]), help="Write folders to learn from.")
@click.option("--votes", type=FILE, help="With --examples votes: the file with them.")
@click.option("--out", type=FOLDER, help="With --examples: where to.  [default: in the home]")
@click.option("--copy", is_flag=True, help="With --examples: copies in place of links.")
@sample_options
@click.pass_obj
def quality(home: Home, /, view: str | None, sample_ids: tuple[str, ...], **given: Any) -> None:
    """Measure what is technically wrong with images, propose keep or trash, and tag the trash.

    Only what is new or changed is measured. Trash is a tag: such images are neither queued nor exported, and nothing is
    deleted.

    Example: labelloop quality --threshold blurry=0.7 --tag-trash
    """
    if given["dry_run"] and not given["tag_trash"]:
        raise LabelingError("--dry-run: goes with --tag-trash")
    rules = {
        "thresholds": read_thresholds(given["thresholds"]),
        "below_mean": given["below"],
        "worst_percent": given["worst"],
    }
    if given["undo"] is not None:
        run_here(home, "quality_undo", to_params(view, sample_ids, run=to_run(given["undo"])))
    elif given["learn"] is not None:
        run_here(home, "quality_learn", to_params(view, sample_ids, votes=str(given["learn"].absolute())))
    elif given["examples"] is not None:
        paths = {name: None if given[name] is None else str(given[name].absolute()) for name in ("votes", "out")}
        chosen: dict[str, Any] = {"source": given["examples"], "copy": given["copy"] or None, **paths}
        run_here(home, "quality_examples", to_params(view, sample_ids, **chosen, **rules))
    else:
        if not given["dry_run"]:
            params = to_params(view, sample_ids, everything=given["everything"] or None, **rules)
            run_here(home, "quality", params, go_on=given["tag_trash"])
        if given["tag_trash"]:
            decide(home, "quality_decide", to_params(view, sample_ids, **rules), "Tag these as trash?", given)


def decide(home: Home, job: str, params: dict[str, Any], question: str, given: dict[str, Any]) -> None:
    """Run a decision: first only what it would do, unless no question is asked, then in earnest."""
    if given["dry_run"] or not given["yes"]:
        run_here(home, job, params | {"dry_run": True}, go_on=not given["dry_run"])
    if given["dry_run"]:
        return
    if not given["yes"]:
        click.confirm(question, abort=True)
    run_here(home, job, params)


def to_run(name: str) -> str | None:
    """Return the decision that a person names; None: the last one.

    >>> to_run("last") is None, to_run("trash-1")
    (True, 'trash-1')
    """
    return None if name == "last" else name


@click.command()
@click.option("--class", "classes", multiple=True, help="What the images should hold; may be given several times.")
@click.option(
    "--claim",
    default="all",
    help="Who says that they do: all, folder, folder:NAME, tag:NAME, field:NAME or field:NAME=VALUE.",
)
@click.option("--threshold", type=click.FloatRange(0, 1), default=0.5, help="From this confidence on it is seen.")
@click.option("--unsure-from", type=click.FloatRange(0, 1), help="Below this it is not seen.  [default: 0.2]")
@click.option("--min-size", type=click.FloatRange(0, 1), default=0.0, help="Part of the image a box must cover.")
@click.option("--model", help="Detector.  [default: the home's]")
@click.option("--seen-in", metavar="FIELD", help="Compare with the boxes of this field, without a detector.")
@click.option("--only-new", is_flag=True, help="Only what was not judged yet.")
@click.option("--send-unsure", is_flag=True, help="Send what the detector is unsure of to Label Studio.")
@click.option("--apply", "action", type=click.Choice(["retag", "copy", "move"]), help="Act on the contradictions.")
@click.option("--to", "folder", type=FOLDER, help="With --apply copy or move: where to.  [default: beside]")
@click.option("--min-score", type=click.FloatRange(0, 1), help="With --apply: only contradictions that are this sure.")
@click.option("--dry-run", is_flag=True, help="Say what is seen and what --apply would do, and write nothing.")
@click.option("--yes", is_flag=True, help="With --apply: do not ask.")
@click.option("--undo", metavar="RUN", help="Take back what --apply did, such as move-1, or the 'last'.")
@sample_options
@click.pass_obj
def clean(home: Home, /, view: str | None, sample_ids: tuple[str, ...], **given: Any) -> None:
    """Find images that do not hold what their folder, tag or label claims, by a detector; then retag, copy or move.

    Every decision is logged and can be taken back. Files of images that are in Label Studio are not moved.

    Example: labelloop clean --class person --claim folder --apply retag
    """
    if given["undo"] is not None:
        run_here(home, "clean_undo", to_params(view, sample_ids, run=to_run(given["undo"])))
        return
    if not given["classes"]:
        raise LabelingError("--class: say what the images should hold, such as --class person")
    if given["dry_run"] and given["send_unsure"]:
        raise LabelingError("--dry-run and --send-unsure: give one of them, since sending is no trial")
    names = ("claim", "threshold", "unsure_from", "min_size", "model", "seen_in")
    criteria = {name: given[name] for name in names} | {"only_new": given["only_new"] or None}
    folder = None if given["folder"] is None else str(given["folder"].absolute())
    wish = {"action": given["action"], "to": folder, "min_score": given["min_score"]}
    judging = to_params(view, sample_ids, classes=list(given["classes"]), **criteria)
    if given["dry_run"]:
        run_here(home, "clean", judging | to_params(None, (), dry_run=True, **wish))
        return
    run_here(home, "clean", judging, go_on=given["send_unsure"] or given["action"] is not None)
    if given["send_unsure"]:
        send_unsure(home, view, sample_ids)
    if given["action"] is not None:
        decide(
            home, "clean_apply", to_params(view, sample_ids, **wish), f"{given['action'].capitalize()} these?", given
        )


def send_unsure(home: Home, view: str | None, sample_ids: Sequence[str]) -> None:
    """Send the samples of which the detector is unsure to Label Studio."""
    from fiftyone_plugins.clean.memory import view_unsure
    from sync import startup
    from sync.jobs.context import open_context
    from sync.jobs.curation.work import select_named

    with open_context(home, startup.find_services(home)) as context:
        samples, _ = select_named(context.dataset, to_params(view, sample_ids))
        chosen = view_unsure(samples)
        unsure = [] if chosen is None else [str(sample_id) for sample_id in chosen.values("id")]
    if unsure:
        run_here(home, "push", {"sample_ids": unsure})
    else:
        click.echo("push: the detector is unsure of nothing")

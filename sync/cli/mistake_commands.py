"""The command that looks for labels which are likely wrong; people decide in the FiftyOne App."""

from __future__ import annotations

import click

from fiftyone_plugins.mistakes.image_labels import OWN_HEAD
from fiftyone_plugins.mistakes.work import KINDS, THRESHOLD
from labels.fields import GROUND_TRUTH
from sync.cli.running import run_here
from sync.cli.sample_options import sample_options, to_params
from sync.settings import Home


@click.command()
@click.option("--labels", default=GROUND_TRUTH, help="Field with boxes, or with a class of the image, to be judged.")
@click.option("--kind", type=click.Choice(KINDS), help="Refuse a field of another kind.")
@click.option("--model", help="Of boxes: weights they are compared with.  [default: the project's model]")
@click.option(
    "--against",
    help=f"Compare with a field in place of the detector; of images: {OWN_HEAD}, or a model's answers."
    f"  [default: the detector, {OWN_HEAD}]",
)
@click.option(
    "--threshold", type=click.FloatRange(0, 1), default=THRESHOLD, help="Tag and save as a view from this score on."
)
@click.option("--objectlab", is_flag=True, help="Also cleanlab's ObjectLab score of each image.")
@click.option("--datalab", is_flag=True, help="Also what cleanlab's Datalab says of images with a class.")
@click.option("--dry-run", is_flag=True, help="Say how many samples would be judged, and change nothing.")
@sample_options
@click.pass_obj
def mistakes(
    home: Home,
    labels: str,
    kind: str | None,
    model: str | None,
    against: str | None,
    threshold: float,
    objectlab: bool,
    datalab: bool,
    dry_run: bool,
    view: str | None,
    sample_ids: tuple[str, ...],
) -> None:
    """Find labels that are likely wrong, with a reason and a suggestion each; no label is changed.

    Scores, reasons and proposals are written on the samples, and the likeliest saved as the view "mistakes". What the
    detector saw is kept: a second run looks at new images alone. Then: the panel "Label mistakes" in the FiftyOne App,
    or labelloop queue --by mistake.

    Example: labelloop mistakes --model yolo26s --view reviewed
    """
    given = {"labels": labels, "kind": kind, "model": model, "against": against, "threshold": threshold}
    flags = {"objectlab": objectlab or None, "datalab": datalab or None, "dry_run": dry_run or None}
    run_here(home, "mistakes", to_params(view, sample_ids, **given, **flags))

"""The commands about what lies near what: embeddings, maps, groups, outliers, indexes, searching."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sync.cli.running import run_here
from sync.cli.sample_options import Command, sample_options, to_params
from sync.settings import Home

PATCHES = click.option(
    "--patches", metavar="FIELD", help="Of the crops of this field's labels.  [default: whole images]"
)
VECTORS = click.option(
    "--vectors", metavar="KEY", help="Which embeddings, as 'embed' names them.  [default: the newest]"
)


def _vector_options(command: Command) -> Command:
    """Add what every command asks that goes by embeddings."""
    return sample_options(PATCHES(VECTORS(command)))


@click.command()
@click.option(
    "--model",
    default="efficientnet-lite0",
    help="efficientnet-lite0, resnet18, dinov2-small, clip, open_clip:NAME/TAG, timm:NAME, torchvision:NAME.",
)
@click.option("--weights", type=click.Path(exists=True, path_type=Path), help="File (open_clip: or folder) of weights.")
@click.option("--device", default="auto", help="auto, cpu or cuda.")
@click.option("--batch-size", type=click.IntRange(1), help="Images at once.  [default: 32]")
@click.option("--again", is_flag=True, help="Everything, not only what is new or was changed.")
@click.option("--dry-run", is_flag=True, help="Say how many would be computed, and compute none.")
@click.option("--patches", metavar="FIELD", help="Crops of this field's labels.  [default: whole images]")
@sample_options
@click.pass_obj
def embed(
    home: Home,
    model: str,
    weights: Path | None,
    device: str,
    batch_size: int | None,
    again: bool,
    dry_run: bool,
    patches: str | None,
    view: str | None,
    sample_ids: tuple[str, ...],
) -> None:
    """Compute embeddings: where images, or crops of them, lie among the others. Only what is new.

    efficientnet-lite0 comes with labelloop; the weights of others are fetched once, or given as a file.

    Example: labelloop embed --model open_clip:ViT-B-32 --weights clip.pt
    """
    chosen: dict[str, Any] = {"model": model, "patches": patches, "batch_size": batch_size}
    chosen |= {"weights": None if weights is None else str(weights.absolute())}
    chosen |= {"device": None if device == "auto" else device, "again": again or None, "dry_run": dry_run or None}
    run_here(home, "embed", to_params(view, sample_ids, **chosen))


@click.command()
@click.option("--method", type=click.Choice(["umap", "pca", "tsne"]), default="umap")
@_vector_options
@click.pass_obj
def visualize(home: Home, /, method: str, **chosen: Any) -> None:
    """Put embeddings onto a plane, for the Embeddings panel of the FiftyOne App.

    Example: labelloop visualize --method umap
    """
    run_here(home, "visualize", to_params(chosen.pop("view"), chosen.pop("sample_ids"), method=method, **chosen))


@click.command()
@click.option("--method", type=click.Choice(["kmeans", "hdbscan"]), default="kmeans")
@click.option("--count", type=click.IntRange(2), help="k-means: how many groups. HDBSCAN: the fewest members.")
@click.option(
    "--word", "words", multiple=True, help="Name groups by such words (CLIP only); may be given several times."
)
@_vector_options
@click.pass_obj
def cluster(home: Home, /, method: str, count: int | None, words: tuple[str, ...], **chosen: Any) -> None:
    """Put like images into groups, each with a suggested name, in the field 'cluster'.

    Example: labelloop cluster --count 12
    """
    params = to_params(chosen.pop("view"), chosen.pop("sample_ids"), method=method, count=count, **chosen)
    run_here(home, "cluster", params | ({"words": list(words)} if words else {}))


@click.command()
@click.option("--neighbours", type=click.IntRange(1), default=10, help="Images each one is compared with.")
@_vector_options
@click.pass_obj
def outliers(home: Home, /, neighbours: int, **chosen: Any) -> None:
    """Score how unlike its nearest images each one is, in the fields 'outlier' and 'uniqueness'.

    Example: labelloop outliers
    """
    run_here(home, "outliers", to_params(chosen.pop("view"), chosen.pop("sample_ids"), neighbours=neighbours, **chosen))


@click.command()
@click.option("--backend", type=click.Choice(["lancedb", "labelloop", "qdrant"]), default="lancedb")
@click.option("--url", help="Address of the Qdrant server.")
@_vector_options
@click.pass_obj
def similarity(home: Home, /, backend: str, url: str | None, **chosen: Any) -> None:
    """Build an index on which the FiftyOne App sorts by similarity.

    Example: labelloop similarity --backend qdrant --url http://127.0.0.1:6333
    """
    run_here(
        home, "similarity", to_params(chosen.pop("view"), chosen.pop("sample_ids"), backend=backend, url=url, **chosen)
    )


@click.command()
@click.option(
    "--like",
    "like",
    multiple=True,
    help="Id of a sample, or the name of its file; several: of what they have in common.",
)
@click.option("--text", help="What is to be seen, in words; for embeddings of a CLIP.")
@click.option("--count", type=click.IntRange(1), default=20)
@click.option("--vectors", metavar="KEY", help="Which embeddings, as 'embed' names them.  [default: the newest]")
@click.pass_obj
def search(home: Home, like: tuple[str, ...], text: str | None, count: int, vectors: str | None) -> None:
    """Print the files of the images most like others, or like a text, nearest first, with their distance.

    Example: labelloop search --text "a dog in the snow"
    """
    if bool(like) == (text is not None):
        raise click.UsageError("give --like ID or --text WORDS, one of the two")
    from sync import startup
    from sync.jobs.context import open_context
    from sync.jobs.curation.searching import search_images

    with open_context(home, startup.find_services(home)) as context:
        found = search_images(context, like=like, text=text, count=count, vectors=vectors)
    for path, distance in found:
        click.echo(f"{distance:.3f}  {path}")


@click.command()
@click.option("--class", "classes", multiple=True, help="A class name; several times.  [default: the label config's]")
@click.option("--control", help="Whose classes, of the label config's controls.")
@click.option("--model", default="clip", help="clip, clip-large, open_clip:NAME/TAG, or open_clip:NAME with --weights.")
@click.option("--weights", type=click.Path(exists=True, path_type=Path), help="File or folder of weights.")
@click.option("--device", default="auto", help="auto, cpu or cuda.")
@click.option("--template", "templates", multiple=True, help="Sentence with {} for the name; several are averaged.")
@click.option("--compare", multiple=True, metavar="FIELD", help="Field to compare with; several times.  [default: all]")
@click.option("--unlabelled", metavar="FIELD", help="Only samples without a label in this field.")
@click.option("--dry-run", is_flag=True, help="Say how many would be classified, and classify none.")
@PATCHES
@sample_options
@click.pass_obj
def zeroshot(home: Home, /, model: str, weights: Path | None, device: str, dry_run: bool, **chosen: Any) -> None:
    """Classify images or crops by class names alone, into a field of their own, and compare with labels.

    Example: labelloop zeroshot --weights clip.pt --model open_clip:ViT-B-32 --class cat --class dog
    """
    lists = {name: list(chosen.pop(name)) or None for name in ("classes", "templates", "compare")}
    view, sample_ids = chosen.pop("view"), chosen.pop("sample_ids")
    asked = {"weights": None if weights is None else str(weights.absolute()), "dry_run": dry_run or None}
    asked["device"] = None if device == "auto" else device
    run_here(home, "zeroshot", to_params(view, sample_ids, model=model, **asked, **lists, **chosen))

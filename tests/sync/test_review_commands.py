"""The commands round the reviews, as a person types them; what needs the tools is in the end-to-end tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from labels.fields import SENT_LABELS
from sync.cli import main
from sync.ledger import Ledger, Link, Review
from sync.review.feedback import Verdict
from sync.settings import Home

SHOWN = """\
reviews          2
with boxes       4.0 s an image (median of 1 review, too few to say much)
without boxes    8.0 s an image (median of 1 review, too few to say much)
time with boxes  50% of the time without, too few to say much

class  predicted  precision  recall  confirmed         moved  relabelled  deleted  added
car           10        90%    100%          8  1 (IoU 0.75)           1        0      0
dog*           1         0%       -          0             0           0        1      0
bus*           0          -      0%          0             0           0        0      0
* few labels: these numbers say little

predicted and changed by people, the most frequent first
    1  car to bus
"""


def run(home: Path, *arguments: str) -> Result:
    variables = {"LABEL_STUDIO_URL": None, "LABELLOOP_ML_BACKEND_URL": None}
    return CliRunner(env=variables).invoke(main, ["--home", str(home), *arguments])


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A state folder in which one image was reviewed with boxes, and one without."""
    cars = [Verdict(f"{n:024x}", "label", "confirmed", "car", "car", 1.0, 0.5) for n in range(8)]
    moved = Verdict("1" * 24, "label", "moved", "car", "car", 0.75, 0.5)
    changed = Verdict("2" * 24, "label", "relabelled", "car", "bus", 1.0, 0.5)
    ghost = Verdict("3" * 24, "label", "deleted", "dog", None, None, 0.5)
    with Ledger.open(Home(tmp_path).ledger) as ledger:
        ledger.record_links([Link(f"s{n}", n, "sum", "yolo-1", "queued") for n in (1, 2)])
        for number, version, verdicts in ((1, "yolo-1", (*cars, moved, changed, ghost)), (2, None, ())):
            ledger.record_review(
                Review(
                    sample_id=f"s{number}",
                    task_id=number,
                    annotation_id=number,
                    annotation_updated_at="2026-01-01T00:00:00.000000Z",
                    reviewer=f"person{number}@x",
                    lead_time_s=4.0 * number,
                    state="reviewed",
                    base=(),
                    conflicts=(),
                    verdicts=verdicts,
                    model_version=version,
                )
            )
    return tmp_path


def test_feedback_shows_classes_confusions_and_times(home: Path):
    shown = run(home, "feedback")
    assert shown.exit_code == 0
    # The classes of which little is known stand behind the one that is known, however weak they are.
    assert shown.output == SHOWN


def test_feedback_tells_images_sent_with_labels_apart(home: Path):
    with Ledger.open(Home(home).ledger) as ledger:
        ledger.record_links([Link("s3", 3, "sum", None, "queued")])
        ledger.record_review(
            Review("s3", 3, 3, "2026-01-01T00:00:00.000000Z", "ana@x", 1.0, "reviewed", (), (), (), SENT_LABELS)
        )
    shown = run(home, "feedback").output.splitlines()
    assert "without boxes    8.0 s an image (median of 1 review, too few to say much)" in shown
    assert "over labels      1.0 s an image (median of 1 review, too few to say much)" in shown


def test_feedback_by_reviewer_has_a_table_for_each(home: Path):
    shown = run(home, "feedback", "--by", "reviewer").output.splitlines()
    assert [line for line in shown if line.startswith("reviewer")] == ["reviewer person1@x", "reviewer person2@x"]
    assert "no review can be compared with a prediction yet" in shown
    by_version = run(home, "feedback", "--by", "version").output.splitlines()
    assert [line for line in by_version if line.startswith("version")] == ["version no prediction", "version yolo-1"]


def test_feedback_writes_its_rows(home: Path, tmp_path: Path):
    target = tmp_path / "rows.csv"
    shown = run(home, "feedback", "--csv", str(target))
    assert (shown.exit_code, shown.output) == (0, f"{target}: 11 rows\n")
    lines = target.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 12
    assert lines[-1] == f"s1,1,1,2026-01-01T00:00:00.000000Z,person1@x,4.0,yolo-1,{'3' * 24},label,deleted,dog,,,0.5"


def test_a_place_that_cannot_be_written_is_one_line(home: Path, tmp_path: Path):
    shown = run(home, "feedback", "--csv", str(tmp_path / "nowhere" / "rows.csv"))
    assert shown.exit_code == 1
    assert len(shown.output.strip().splitlines()) == 1
    assert "cannot be written (No such file or directory)" in shown.output


def test_before_the_first_review_there_is_nothing_to_say(tmp_path: Path):
    shown = run(tmp_path / "home", "feedback")
    assert shown.exit_code == 1
    assert "nothing was reviewed yet" in shown.output


@pytest.mark.parametrize("arguments", [("queue", "--by", "random", "--count", "3"), ("relabel", "a", "b")])
def test_without_the_tools_it_is_said_in_one_line(tmp_path: Path, arguments: tuple[str, ...]):
    shown = run(tmp_path, *arguments)
    assert shown.exit_code == 1
    assert shown.output.strip().endswith("the stack does not run, start it with: labelloop up")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("relabel", "person", ""), "'NEW'"),
        (("relabel", " ", "person"), "'OLD'"),
        (("relabel", "person", "human", "--control", ""), "'--control'"),
        (("queue", "--by", "", "--count", "3"), "'--by'"),
        (("queue", "--by", "random", "--count", "3", "--view", " "), "'--view'"),
    ],
)
def test_an_empty_name_is_refused_in_the_words_of_the_command_line(
    home: Path, arguments: tuple[str, ...], named: str
) -> None:
    result = run(home, *arguments)
    assert result.exit_code == 2
    assert f"Invalid value for {named}: it is empty, expected a name" in result.output

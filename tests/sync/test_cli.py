from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from sync.cli import main
from sync.settings import Home, Project

COMMANDS = (
    "up",
    "demo",
    "down",
    "status",
    "app",
    "reset",
    "ingest",
    "prelabel",
    "push",
    "pull",
    "export",
    "versions",
    "diff",
    "verify-export",
    "sweep",
    "resolve",
    "verify",
    "queue",
    "feedback",
    "relabel",
    "password",
    "runs",
    "cancel",
    "retry",
    "models",
    "predict",
    "compile",
    "calibrate",
    "train",
    "evaluate",
    "promote",
    "rollback",
    "simulate",
    "report",
    "embed",
    "visualize",
    "cluster",
    "outliers",
    "similarity",
    "search",
    "duplicates",
    "mistakes",
    "quality",
    "clean",
    "zeroshot",
)


def run(home: Path, *arguments: str, **environment: str) -> "click.testing.Result":
    variables = {"LABEL_STUDIO_URL": None, "LABELLOOP_ML_BACKEND_URL": None, **environment}
    return CliRunner(env=variables).invoke(main, ["--home", str(home), *arguments])


def test_there_are_these_commands():
    assert set(main.commands) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str, tmp_path: Path):
    shown = run(tmp_path, name, "-h")
    assert shown.exit_code == 0
    assert f"Example: labelloop {name}" in shown.output


@pytest.mark.parametrize("name", ["push", "pull", "export", "prelabel", "status", "down"])
def test_nothing_runs_is_said_in_one_line(name: str, tmp_path: Path):
    shown = run(tmp_path / "home", name)
    assert len(shown.output.strip().splitlines()) == 1
    if name in ("status", "down"):
        assert shown.exit_code == 0
    else:
        assert shown.exit_code == 1
        assert "the stack does not run, start it with: labelloop up" in shown.output


def test_a_demo_and_a_persons_own_images_do_not_mix(tmp_path: Path):
    home = Home(tmp_path / "home")
    home.make()
    Project(name="demo").write(home)
    (tmp_path / "photos").mkdir()
    shown = run(home.path, "up", "--images", str(tmp_path / "photos"))
    assert shown.exit_code == 1
    assert "holds the demo; use another folder (--home) or remove it: labelloop reset" in shown.output


def test_a_label_config_that_cannot_be_used_is_refused_before_anything_starts(tmp_path: Path):
    config = tmp_path / "label_config.xml"
    config.write_text("<View/>", encoding="utf-8")
    shown = run(tmp_path / "home", "up", "--label-config", str(config))
    assert shown.exit_code == 1
    assert "has 0 <Image> tags" in shown.output
    assert not (tmp_path / "home").exists()


def test_reset_asks_first_and_deletes_only_a_home_of_labelloop(tmp_path: Path):
    home = Home(tmp_path / "home")
    home.make()
    Project(name="photos").write(home)
    assert run(home.path, "reset").exit_code == 1
    assert home.path.exists()
    assert run(home.path, "reset", "--yes").exit_code == 0
    assert not home.path.exists()
    other = tmp_path / "documents"
    other.mkdir()
    shown = run(other, "reset", "--yes")
    assert "no home of labelloop" in shown.output
    assert other.exists()


def test_a_folder_with_something_else_in_it_is_no_home_and_loses_nothing(tmp_path: Path):
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").write_bytes(b"mine")
    shown = run(photos, "up", "--images", str(photos))
    assert shown.exit_code == 1
    assert "is not empty and no home of labelloop; choose an empty or new folder" in shown.output
    assert [path.name for path in photos.iterdir()] == ["a.jpg"]


def test_reset_leaves_what_labelloop_did_not_make(tmp_path: Path):
    home = Home(tmp_path / "home")
    home.make()
    Project(name="photos").write(home)
    (home.path / "mine.jpg").write_bytes(b"mine")
    outside = tmp_path / "photos"
    outside.mkdir()
    (outside / "a.jpg").write_bytes(b"mine")
    (home.images / "photos").symlink_to(outside)
    shown = run(home.path, "reset", "--yes")
    assert "left in it, since labelloop did not make it: mine.jpg" in shown.output
    assert [path.name for path in home.path.iterdir()] == ["mine.jpg"]
    assert (outside / "a.jpg").read_bytes() == b"mine"


@pytest.mark.parametrize("port", ["0", "80000", "-3", "http"])
def test_a_port_that_is_none_is_refused(port: str, tmp_path: Path):
    assert run(tmp_path / "home", "up", "--label-studio-port", port).exit_code == 2


def test_a_damaged_project_file_is_named(tmp_path: Path):
    home = Home(tmp_path / "home")
    home.make()
    home.project_file.write_text('{"colour": "red"}', encoding="utf-8")
    shown = run(home.path, "up")
    assert shown.exit_code == 1
    assert "project.json: unknown content" in shown.output


def test_a_state_folder_that_only_has_our_own_folders_is_taken(tmp_path: Path):
    home = Home(tmp_path / "state")
    for folder in (home.secrets, home.models, home.images):
        folder.mkdir(parents=True)
    home.make()
    assert home.run.is_dir()


def test_an_import_names_what_is_missing_before_it_looks_for_the_tools(tmp_path: Path):
    (tmp_path / "a.tar").write_bytes(b"")
    for arguments, said in (
        (["ingest"], "FOLDER is missing; only --unpack does without"),
        (["ingest", str(tmp_path / "nowhere")], "no such folder"),
        (["ingest", str(tmp_path), "--unpack"], "--unpack and --dry-run are for --labels"),
        (["ingest", "--labels", str(tmp_path / "a.tar")], "FOLDER is missing"),
    ):
        shown = run(tmp_path / "home", *arguments)
        assert (shown.exit_code, said in " ".join(shown.output.split())) == (2, True), shown.output
    understood = run(tmp_path / "home", "ingest", "--labels", str(tmp_path / "a.tar"), "--unpack")
    assert understood.exit_code == 1, "only the tools are missing"

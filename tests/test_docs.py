"""What the documents say is so: links, commands, variables, fields, tables, examples and the copied help."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import click
import pytest

from labels import fields
from labels.config import LabelConfig
from labels.errors import LabelConfigError
from sync.cli import main
from sync.ledger.migrations import apply_migrations

REPOSITORY = Path(__file__).parents[1]
README = REPOSITORY / "README.md"
COMMANDS = REPOSITORY / "docs" / "commands.md"
DOCUMENTS = (README, REPOSITORY / "CHANGELOG.md", *sorted((REPOSITORY / "docs").rglob("*.md")))
PACKAGES = ("labels", "ml_backend", "fiftyone_plugins", "sync")
TEST_COMMAND = "pip install uv && uv run pytest"
DEMO_COMMAND = "pip install uv && uv run labelloop demo"
VARIABLE = re.compile(
    r"\b(?:LABELLOOP|LABEL_STUDIO|FIFTYONE|COMPOSE|PYTHON)[A-Z]*_[A-Z][A-Z_]*[A-Z]\b|\bPYTHON[A-Z]+\b"
)
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE_SPAN = re.compile(r"`([^`\n]+)`")
COG_BLOCK = re.compile(r"<!-- \[\[\[cog.*?\[\[\[end\]\]\] -->", re.DOTALL)
# What may stand before the words of the command itself.
PREFIX = re.compile(r".*?(?:\blabelloop|python -P -m sync\.cli)(?=\s|$)")
IMAGE_BYTES = 250_000


class Block(NamedTuple):
    """A piece of code in a document, with the language it names."""

    language: str
    text: str


def read_blocks(text: str) -> list[Block]:
    return [Block(*found) for found in CODE_BLOCK.findall(text)]


def read_prose(document: Path) -> str:
    """Return a document without what cog copies into it, which the commands themselves wrote."""
    return COG_BLOCK.sub("", document.read_text(encoding="utf-8"))


def read_commands(text: str) -> list[str]:
    """Return the command lines of labelloop in the shell blocks and code spans of a text."""
    lines = [line for block in read_blocks(text) if block.language == "sh" for line in block.text.splitlines()]
    spans = CODE_SPAN.findall(CODE_BLOCK.sub("", text))
    candidates = [line.partition(" #")[0].strip() for line in (*lines, *spans)]
    is_command = re.compile(r"(?:pip install uv && )?(?:uv run )?labelloop |docker compose .*sync\.cli ")
    return [line for line in candidates if is_command.match(line)]


def check_command(line: str) -> None:
    """Parse a command line as the command would, without looking at files and without running anything.

    Raises:
        click.UsageError: a command, option, argument or choice that does not exist, or one that is missing.
    """
    words = shlex.split(PREFIX.sub("", line, count=1))
    # A command keeps the help option of the first context it meets: without these settings it would lose «-h».
    context = click.Context(main, info_name="labelloop", **main.context_settings)
    left = _check_words(main, context, words, allow_left=True)
    if left:
        command = main.get_command(context, left[0])
        if command is None:
            raise click.UsageError(f"no such command: {left[0]}")
        _check_words(command, click.Context(command, context, left[0]), left[1:], allow_left=False)


def _check_words(command: click.Command, context: click.Context, words: list[str], *, allow_left: bool) -> list[str]:
    given, left, _ = command.make_parser(context).parse_args(args=list(words))
    for parameter in command.get_params(context):
        value = given.get(parameter.name or "")
        is_given = isinstance(value, str)
        if parameter.required and not is_given:
            raise click.MissingParameter(ctx=context, param=parameter)
        if is_given and not isinstance(parameter.type, click.Path):
            parameter.type.convert(value, parameter, context)
    if left and not allow_left:
        raise click.UsageError(f"not expected: {' '.join(left)}")
    return left


def read_strings(folder: Path) -> Iterator[str]:
    """Yield every text in the Python files of a folder that is not a docstring's sentence: one word, no spaces."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " not in node.value:
                yield node.value


@cache
def read_code_variables(*folders: str) -> set[str]:
    """Return the environment variables that the code names as texts of their own."""
    return {text for name in folders for text in read_strings(REPOSITORY / name) if VARIABLE.fullmatch(text)}


def read_compose_variables() -> set[str]:
    compose = (REPOSITORY / "docker-compose.yml").read_text(encoding="utf-8")
    example = (REPOSITORY / ".env.example").read_text(encoding="utf-8")
    assigned = re.findall(r"^\s+([A-Z][A-Z_]+):", compose, re.MULTILINE)
    return {*assigned, *re.findall(r"\$\{([A-Z_]+)", compose), *re.findall(r"^#?([A-Z_]+)=", example, re.MULTILINE)}


def name_of(document: Path) -> str:
    return document.relative_to(REPOSITORY).as_posix()


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_relative_link_and_picture_exists(document: Path) -> None:
    targets = [target for target in LINK.findall(read_prose(document)) if not re.match(r"[a-z]+:|#", target)]
    missing = [target for target in targets if not (document.parent / target.partition("#")[0]).exists()]
    assert missing == []


def test_every_picture_is_shown_and_small() -> None:
    pictures = sorted((REPOSITORY / "docs" / "images").glob("*"))
    shown = {
        (document.parent / target).resolve() for document in DOCUMENTS for target in LINK.findall(read_prose(document))
    }
    assert pictures
    assert [path.name for path in pictures if path not in shown or path.stat().st_size > IMAGE_BYTES] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_command_line_is_one_that_labelloop_takes(document: Path) -> None:
    for line in read_commands(read_prose(document)):
        try:
            check_command(line)
        except click.UsageError as error:
            pytest.fail(f"{line}: {error.format_message()}")


@pytest.mark.parametrize(
    "line",
    [
        "labelloop polish",
        "labelloop up --colour red",
        "labelloop pull --prefer nobody",
        "labelloop app",
        "labelloop export coco",
        "uv run labelloop up --app-port high",
        "docker compose exec console python -P -m sync.cli relabel",
    ],
)
def test_the_check_of_command_lines_finds_wrong_ones(line: str) -> None:
    assert read_commands(f"```sh\n{line}  # why\n```\n") == [line]
    with pytest.raises(click.UsageError):
        check_command(line)


def test_the_readme_names_every_command() -> None:
    named = {
        shlex.split(PREFIX.sub("", line, count=1))[0] for line in read_commands(README.read_text(encoding="utf-8"))
    }
    table = README.read_text(encoding="utf-8").partition("## Commands")[2].partition("\n## ")[0]
    assert set(re.findall(r"`(\w[\w-]*)`", table)) == set(main.commands)
    assert {"demo", "up", "status", "pull", "export", "reset"} <= named


def test_the_copied_help_is_what_the_commands_say() -> None:
    command = [sys.executable, "-m", "cogapp", "--check", str(COMMANDS)]
    checked = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, f"run: uv run cog -r docs/commands.md\n{checked.stdout}{checked.stderr}"
    headings = set(re.findall(r"^### labelloop ([\w-]+)$", COMMANDS.read_text(encoding="utf-8"), re.MULTILINE))
    assert headings == set(main.commands)


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_variable_in_a_document_is_read_somewhere(document: Path) -> None:
    known = read_code_variables(*PACKAGES, "tests") | read_compose_variables()
    script = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")
    named = set(VARIABLE.findall(read_prose(document)))
    assert sorted(name for name in named - known if name not in script) == []


def test_every_variable_of_ours_is_in_the_documents() -> None:
    ours = {name for name in read_code_variables(*PACKAGES) | read_compose_variables() if name.startswith("LABELLOOP_")}
    documented = {name for document in DOCUMENTS for name in VARIABLE.findall(read_prose(document))}
    assert len(ours) > 20
    assert sorted(ours - documented) == []


def test_the_architecture_names_every_field_and_state() -> None:
    text = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    values = {value for name, value in vars(fields).items() if name.isupper() and isinstance(value, str)}
    assert len(values) > 15
    assert sorted(value for value in values if f"`{value}`" not in text) == []


def test_the_architecture_names_every_table_of_the_ledger() -> None:
    from sqlite_utils import Database

    text = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    database = Database(memory=True)
    apply_migrations(database)
    tables = {name for name in database.table_names() if not name.startswith(("_", "sqlite_"))}
    database.close()
    assert "links" in tables
    assert sorted(name for name in tables if f"| `{name}` |" not in text) == []


def test_every_route_of_the_ml_backend_is_in_its_document() -> None:
    source = (REPOSITORY / "ml_backend" / "serving" / "app.py").read_text(encoding="utf-8")
    text = (REPOSITORY / "docs" / "ml-backend.md").read_text(encoding="utf-8")
    routes = {f"{verb.upper()} {path}" for verb, path in re.findall(r'@app\.(get|post)\("([^"]+)"\)', source)}
    assert "POST /predict" in routes
    assert sorted(route for route in routes if f"`{route}`" not in text) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_label_config_in_a_document_can_be_used(document: Path) -> None:
    for block in read_blocks(read_prose(document)):
        if block.language == "xml":
            try:
                LabelConfig.from_xml(block.text)
            except LabelConfigError as error:
                pytest.fail(f"{error}\n{block.text}")


def test_the_readme_starts_with_the_command_for_the_demo_and_has_the_one_ci_runs() -> None:
    lines = [line for block in read_blocks(README.read_text(encoding="utf-8")) for line in block.text.splitlines()]
    assert [line for line in lines if "pip install uv" in line] == [DEMO_COMMAND, TEST_COMMAND]
    script = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    # Options that only print more may follow, nothing that chooses among the tests.
    run = re.compile(re.escape(TEST_COMMAND) + r"(?: --durations=\d+| -v| -q)*$")
    assert [line for line in script if run.match(line)], f".ci/run does not run: {TEST_COMMAND}"

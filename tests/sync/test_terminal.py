"""What a command shows in a log."""

from __future__ import annotations

import pytest

from sync.terminal import watch_progress


def test_a_log_gets_one_line_for_each_thing_that_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    with watch_progress() as on_progress:
        for done in range(100):
            on_progress(done / 100, f"pre-labelling, {done}/100")
        on_progress(None, "sending predictions")

    assert capsys.readouterr().err.splitlines() == ["pre-labelling, 0/100", "sending predictions"]

"""What every page works with, put together once when the app is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sync.console.catalogue import Catalogue
from sync.console.health import Health
from sync.console.previews import Previews
from sync.console.settings import ConsoleSettings
from sync.console.status import CachedStatus, Tool
from sync.runs.job_runner import JobRunner

FetchHealth = Callable[[Sequence[Tool] | None], Mapping[str, Health]]


@dataclass(frozen=True)
class Parts:
    """The runner, what is known of the project, and what is kept in memory between requests."""

    settings: ConsoleSettings
    runner: JobRunner
    catalogue: Catalogue
    status: CachedStatus
    previews: Previews
    fetch_health: FetchHealth

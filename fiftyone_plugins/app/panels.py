"""What every panel does: it reads anew when it opens and when something changed, opens forms, and has one look."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Final
from urllib.parse import quote

import fiftyone.operators as foo
from fiftyone.operators import types

from labels.errors import LabelingError

# The App knows it as `pad` alone, in steps of 8 px: of a `padding` it does nothing.
PADDING: Final = 2
Event = Callable[[Any], None]


class CurationPanel(foo.Panel):  # type: ignore[misc]  # FiftyOne has no types
    """A panel for half the window's width: what it shows lies in its state, what is decided in files and fields."""

    name_in_app: ClassVar[str]
    label: ClassVar[str]
    about: ClassVar[str]
    icon: ClassVar[str]
    _turns: ClassVar[defaultdict[str | None, threading.Lock]] = defaultdict(threading.Lock)

    def execute(self, ctx: Any) -> Any:
        """Handle an event, when those of the same window that came before it are done.

        The App sends them at once and draws what each answers: the list as an earlier event knew it would stand over
        what a person chose later. What is no news is not drawn again for the same reason.
        """
        with self._turns[ctx.panel_id]:
            return super().execute(ctx) if self.is_news(ctx) else None

    def is_news(self, ctx: Any) -> bool:
        """Return whether an event can change what is shown."""
        return True

    @property
    def config(self) -> foo.PanelConfig:
        """How the App lists this panel."""
        return foo.PanelConfig(name=self.name_in_app, label=self.label, icon=self.icon, help_markdown=self.about)

    def on_load(self, ctx: Any) -> None:
        """Read what there is."""
        self.refresh(ctx)

    def on_change_dataset(self, ctx: Any) -> None:
        """Forget the dataset before, and read what there is in the new one."""
        ctx.panel.state.clear()
        self.on_load(ctx)

    def refresh(self, ctx: Any) -> None:
        """Read anew; nothing where no dataset is open."""
        if ctx.dataset is None:
            return
        # A job may have written fields and runs in another process.
        ctx.dataset.reload()
        self.read(ctx)

    def show_all(self, ctx: Any) -> None:
        """Take the grid's filter off."""
        ctx.ops.clear_view()

    def render(self, ctx: Any) -> types.Property:
        """Return the panel's parts, one below the other."""
        panel = types.Object()
        self.fill(ctx, panel)
        view = types.GridView(align_x="left", orientation="vertical", width=100, pad=PADDING)
        return types.Property(panel, view=view)

    def open_form(
        self, ctx: Any, operator: str, params: Mapping[str, Any] | None = None, *, then: Event | None = None
    ) -> None:
        """Open the form of an operator of the same plugin, filled in where params are given.

        ``then`` is the method of the panel that is called when it has run; None: ``refresh``.
        """
        name = f"{self.plugin_name}/{operator}"
        ctx.prompt(name, params=params, on_success=self.refresh if then is None else then)

    @abstractmethod
    def read(self, ctx: Any) -> None:
        """Read what is shown into the panel's state."""

    @abstractmethod
    def fill(self, ctx: Any, panel: types.Object) -> None:
        """Add what the state holds."""


@contextmanager
def tell_problems(ctx: Any) -> Iterator[None]:
    """Show what goes wrong inside as a message in the App; the panel goes on."""
    try:
        yield
    except LabelingError as error:
        ctx.ops.notify(str(error), variant="error")


def to_media_url(path: str) -> str:
    """Return where the App's server shows a file.

    >>> to_media_url("/photos/a b.jpg")
    '/media?filepath=%2Fphotos%2Fa%20b.jpg'
    """
    return f"/media?filepath={quote(path, safe='')}"

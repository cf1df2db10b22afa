"""The screen of ``covey top``: four tables, made of the lines of ``lines``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar, Final

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.containers import Grid, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Static

from covey.cli import lines
from covey.cli.lines import Line
from covey.client.future import Future
from covey.dashboard.feed import Feed
from covey.errors import CoveyError, UsageError
from covey.serde.failures import traceback_text

#: How often the tables are filled anew.
REFRESH_SECONDS: Final = 0.5


class Answer(ModalScreen[None]):
    """A text over the tables, until a key is pressed."""

    BINDINGS: ClassVar[Any] = [
        Binding("escape,q,enter", "dismiss", "close", key_display="esc")
    ]

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def compose(self) -> ComposeResult:
        """Lay the text out."""
        with VerticalScroll(classes="box"):
            # As text and not as markup: users' messages may hold brackets.
            yield Static(Text(self.text), id="answer")
            yield Static(Text("esc closes"), classes="hint")


class Question(ModalScreen[bool]):
    """Yes or no."""

    BINDINGS: ClassVar[Any] = [
        Binding("y", "answer(True)", "yes"),
        Binding("n,escape", "answer(False)", "no", key_display="n"),
    ]

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def compose(self) -> ComposeResult:
        """Lay the question out."""
        with Vertical(classes="box"):
            yield Static(Text(self.text), id="question")
            yield Static(Text("y yes   n no"), classes="hint")

    def action_answer(self, value: bool) -> None:
        """Give the answer."""
        self.dismiss(value)


class Top(App[None]):
    """Shows what a feed tells.

    Args:
        feed: a cluster, or a recording.
    """

    TITLE = "covey top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #head { height: auto; max-height: 2; background: $primary; color: $text; padding: 0 1; }
    #suspect { height: auto; max-height: 3; color: $warning; padding: 0 1; }
    Grid { grid-size: 2 2; grid-gutter: 0 1; }
    .pane { height: 1fr; }
    .title { color: $text-muted; padding: 0 1; }
    DataTable { height: 1fr; }
    Answer, Question { align: center middle; }
    .box { width: 80%; height: auto; max-height: 80%; border: round $primary;
           background: $surface; padding: 1 2; }
    .hint { color: $text-muted; padding: 1 0 0 0; }
    """
    BINDINGS: ClassVar[Any] = [
        Binding("q", "quit", "quit"),
        Binding("e", "explain", "explain"),
        Binding("c", "cancel", "cancel"),
        Binding("r", "retry", "retry"),
        Binding("tab", "app.focus_next", "next table"),
    ]

    #: Name, title, headings, and what fills it.
    TABLES: ClassVar[
        tuple[tuple[str, str, tuple[str, ...], Callable[..., list[Line]]], ...]
    ] = (
        ("workers", "Workers", lines.WORKERS, lines.workers),
        ("functions", "Functions", lines.FUNCTIONS, lines.functions),
        ("running", "Running tasks", lines.RUNNING, lines.running),
        ("errors", "Errors", lines.ERRORS, lines.errors),
    )

    def __init__(self, feed: Feed) -> None:
        super().__init__()
        self._feed = feed
        #: What each table shows at the moment.
        self._lines: dict[str, list[Line]] = {}

    def compose(self) -> ComposeResult:
        """Lay the tables out."""
        yield Static(id="head")
        with Grid():
            for name, title, _, _ in self.TABLES:
                with Vertical(classes="pane"):
                    yield Static(title, classes="title")
                    yield DataTable(id=name, cursor_type="row", zebra_stripes=True)
        yield Static(id="suspect")
        yield Footer()

    def on_mount(self) -> None:
        """Begin to follow."""
        for name, _, headings, _ in self.TABLES:
            self._table(name).add_columns(*headings)
        self._table("running").focus()
        self.run_worker(self._feed.follow(_nothing), exit_on_error=False)
        self.set_interval(REFRESH_SECONDS, self.fill)
        self.fill()

    async def on_unmount(self) -> None:
        """Let the cluster go."""
        await asyncio.to_thread(self._feed.close)

    def _table(self, name: str) -> Any:
        return self.query_one(f"#{name}", DataTable)

    # Showing.

    def fill(self) -> None:
        """Show how everything stands."""
        if not self.query("#head"):
            return  # The screen is being taken down.
        model = self._feed.model
        status = self._feed.status
        if self._feed.problem and status != "live":
            status = f"{status} ({self._feed.problem})"  # type: ignore[assignment]
        self._say("head", lines.headline(model, status))
        self._say("suspect", lines.suspect(model))
        for name, _, _, make in self.TABLES:
            self._fill(name, make(model))

    def _say(self, name: str, text: str) -> None:
        self.query_one(f"#{name}", Static).update(Text(text))

    def _fill(self, name: str, found: list[Line]) -> None:
        """Fill a table; the cursor stays with its line, wherever that goes."""
        shown = self._lines.get(name)
        if shown == found:
            return
        table = self._table(name)
        marked = self._marked(name)
        self._lines[name] = found
        # Lines of the same places only change their cells: nothing jumps.
        if shown is not None and [s.name for s in shown] == [f.name for f in found]:
            for row, (before, line) in enumerate(zip(shown, found, strict=True)):
                for column, cell in enumerate(line.cells):
                    if before.cells[column] != cell:
                        table.update_cell_at((row, column), Text(cell))
            return
        table.clear()
        for line in found:
            table.add_row(*map(Text, line.cells))
        names = [line.name for line in found]
        if marked is not None and marked.name in names:
            table.move_cursor(row=names.index(marked.name))

    def _marked(self, name: str) -> Line | None:
        """Return the line under the cursor of a table."""
        found = self._lines.get(name) or []
        row: int = self._table(name).cursor_row
        return found[row] if 0 <= row < len(found) else None

    def _chosen(self) -> str:
        """Return the key of the task that is meant, or nothing."""
        focused = self.focused
        line = self._marked(focused.id) if isinstance(focused, DataTable) else None
        if line is not None and line.key:
            return line.key
        self.notify("mark a line under Running tasks or Errors", severity="warning")
        return ""

    # Acting.

    def action_explain(self) -> None:
        """Say how the marked task stands."""
        key = self._chosen()
        if key:
            self.run_worker(self._explain(key))

    async def _explain(self, key: str) -> None:
        try:
            answer = await self._feed.ask("explain", names=(key,))
        except CoveyError as error:
            self.notify(str(error), severity="error")
            return
        text = f"{key}: {answer['text']}"
        if answer.get("payload"):
            text += f"\n\n{traceback_text(answer['payload']).rstrip()}"
        if answer.get("printed"):
            text += f"\n\nIt printed:\n{answer['printed']}"
        self.push_screen(Answer(text))

    def action_cancel(self) -> None:
        """Cancel the marked task, if that is meant."""
        self._ask_and_act("cancel", lambda future: future.cancel("from covey top"))

    def action_retry(self) -> None:
        """Run the marked task, which failed, once more."""
        self._ask_and_act("retry", lambda future: future.retry())

    def _ask_and_act(self, word: str, do: Callable[[Future[Any]], object]) -> None:
        key = self._chosen()
        if not key:
            return

        def answered(sure: bool | None) -> None:
            if sure:
                self.run_worker(self._act(word, key, do))

        self.push_screen(Question(f"{word} {key}?"), answered)

    async def _act(
        self, word: str, key: str, do: Callable[[Future[Any]], object]
    ) -> None:
        try:
            answer = await self._feed.ask("explain", names=(key,))
            if "task" not in answer:
                raise UsageError(f"{key}: {answer['text']}")
            await asyncio.to_thread(self._feed.act, int(answer["task"]), do)
        except CoveyError as error:
            self.notify(str(error), severity="error")
        else:
            self.notify(f"{key}: told to {word}")


def _nothing() -> None:
    """The tables are filled by a timer."""

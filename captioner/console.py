"""Messages and progress on standard error, for all commands.

Standard output is reserved for results. On a terminal, progress is a bar with count, rate and
remaining time; elsewhere, it is a line every 30 seconds. `--quiet` keeps only warnings and errors.
Nothing here raises: if standard error is closed or full, messages are dropped.
"""

import os
import shutil
import sys
import time
from typing import Any, TextIO

from captioner.display import one_line

SECONDS_A_LINE = 30.0
"""Seconds between two progress lines without a terminal."""

_quiet = False
_bar: Any = None  # the active bar; clear it before writing a message


def set_quiet(quiet: bool) -> None:
    """Set whether `say` and progress are silent."""
    global _quiet  # one terminal, one setting
    _quiet = quiet


def say(message: str) -> None:
    """Show a message; silent with `--quiet`."""
    if not _quiet:
        _write(one_line(message))


def warn(message: str) -> None:
    """Report a failure that does not end the command; shown with `--quiet` too."""
    _write(f"captioner: {one_line(message)}")


def error(message: str) -> None:
    """Report why the command ends, in one line."""
    _write(f"captioner: error: {one_line(' '.join(message.split()))}")


def usage(text: str) -> None:
    """Show a help text on standard error, after a wrong call."""
    _write(text, end="")


def on_terminal() -> bool:
    """Return whether a bar can be drawn: on a terminal and without `--quiet`."""
    try:
        return not _quiet and sys.stderr is not None and sys.stderr.isatty()
    except ValueError:  # it is closed
        return False


class Progress:
    """A progress bar or progress lines, shown during a `with` block.

    Args:
        unit: Plural name of what is counted, such as "photos".
        total: Total count, if known; may be set later.
        done: Count completed by an earlier run, which is excluded from the rate.
        shown: Whether to show progress. Set it to False if results are printed to the terminal.
    """

    def __init__(
        self, unit: str, total: int | None = None, *, done: int = 0, shown: bool = True
    ) -> None:
        self.unit = unit
        self.count = self._before = done
        self._total = total
        self._shown = shown and not _quiet
        self._began = self._said = time.monotonic()
        self._bar: Any = None

    def __enter__(self) -> "Progress":
        global _bar
        self._began = self._said = time.monotonic()
        if self._shown and on_terminal() and _bar is None:
            from tqdm import tqdm

            self._bar = _bar = tqdm(
                total=self._total,
                initial=self._before,
                unit=f" {self.unit}",
                file=sys.stderr,
                dynamic_ncols=True,
            )
        return self

    def __exit__(self, *error: object) -> None:
        global _bar
        if self._bar is not None:
            self._bar.close()
            self._bar = _bar = None
        elif self._said != self._began:  # print a last line if there were others
            self._say()

    @property
    def is_shown(self) -> bool:
        """Whether progress is shown."""
        return self._shown

    @property
    def total(self) -> int | None:
        """The total count, if known."""
        return self._total

    @total.setter
    def total(self, total: int | None) -> None:
        self._total = total
        if self._bar is not None:
            self._bar.total = total

    def update(self, count: int = 1) -> None:
        """Add to the count."""
        self.count += count
        if self._bar is not None:
            self._bar.update(count)
        elif time.monotonic() - self._said >= SECONDS_A_LINE:
            self._say()

    def _say(self) -> None:
        if self._shown:
            self._said = time.monotonic()
            say(self.line())

    def line(self) -> str:
        """Return the state as text: `1,200 of 3,600 photos, 40.0 photos/s, 1:00 left`."""
        seconds = max(time.monotonic() - self._began, 1e-9)
        rate = (self.count - self._before) / seconds
        of = "" if self._total is None else f" of {self._total:,}"
        left = ""
        if self._total is not None and rate > 0 and self._total > self.count:
            left = f", {clock((self._total - self.count) / rate)} left"
        return f"{self.count:,}{of} {self.unit}, {rate:.1f} {self.unit}/s{left}"


class StatusLine:
    """A status line: overwritten on a terminal, printed for each change elsewhere.

    It keeps the standard error of its creation, because a study redirects it to log files.
    """

    def __init__(self) -> None:
        self._stream = sys.stderr
        self._over = on_terminal()

    def show(self, text: str) -> None:
        """Replace the text of the line."""
        if _quiet:
            return
        if self._over:
            width = shutil.get_terminal_size().columns - 1
            _write(f"\r\033[K{one_line(text)[:width]}", self._stream, end="")
        else:
            _write(one_line(text), self._stream)

    def __enter__(self) -> "StatusLine":
        return self

    def __exit__(self, *error: object) -> None:
        if self._over and not _quiet:
            _write("", self._stream)


def clock(seconds: float) -> str:
    """Format seconds as `m:ss` or `h:mm:ss`.

    Example:
        >>> clock(3725)
        '1:02:05'
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def open_streams() -> None:
    """Reopen each closed standard stream (`2>&-`) before other files are opened.

    Otherwise, the next file opened would get its descriptor, and messages would be written into the
    file. Writing results to a closed standard output still fails.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            # open() returns the lowest free descriptor, which is this one. Open standard output
            # read-only, so that writing results to it is an error.
            flags = os.O_WRONLY if number == 2 else os.O_RDONLY
            os.open(os.devnull, flags)
            if getattr(sys, name) is None:
                stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115
                setattr(sys, name, stream)


def _write(text: str, stream: TextIO | None = None, end: str = "\n") -> None:
    stream = stream or sys.stderr
    if stream is None:
        return
    if _bar is not None:
        _bar.clear()
    try:
        stream.write(text + end)
        stream.flush()
    except (OSError, ValueError):  # full or closed; there is nowhere to report it
        return
    if _bar is not None:
        _bar.refresh()

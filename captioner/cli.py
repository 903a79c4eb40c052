"""The command line: dispatches to a command, and turns errors into one line and an exit code.

A command parses its flags before anything heavy is imported, so that `--help` and a mistyped flag
answer at once. What ends a command, and its exit code:

- 0: everything was done; 1: something could not be done, the rest was; 2: the call was wrong.
  `CaptionerError` carries 1 or 2 (143 from `train`, which writes a checkpoint first).
- `OSError`, memory that ran out: 1, with the file's name where there is one.
- A reader that has closed the pipe (`captioner … | head`): 1, without a message.
- Ctrl-C: 130. SIGTERM: 143. Both raise `KeyboardInterrupt`, whose text says what is kept and how to
  resume.
- Anything else is a fault of the code, and keeps its traceback.
"""

import contextlib
import importlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from types import FrameType

from captioner import __version__, console
from captioner.errors import CaptionerError, UsageError, suggestion

COMMANDS = (
    "audit",
    "prepare",
    "train",
    "evaluate",
    "caption",
    "score",
    "inspect",
    "study",
    "words",
    "export",
)
"""Each is a module of `captioner.commands` with a function `run(arguments) -> exit code`."""

HELP = """\
usage: captioner COMMAND ...

CNN + RNN image captioning: train, search, score, compare.

commands:
  audit     look through a data set for leaks between splits, and for what is broken
  prepare   vocabulary and image features of a data set
  train     train a captioner
  evaluate  score a checkpoint on a split, or a file of captions
  caption   write captions for photos
  inspect   draw gates, states and image reach, word by word
  study     train a grid of configurations x seeds and compare them
  score     log-probabilities of given sentences for photos
  words     neighbours of a word in a checkpoint's embeddings; export them
  export    a checkpoint as safetensors and JSON

`captioner COMMAND --help` lists a command's options.

options:
  -h, --help   show this text
  --version    show the version

options of every command:
  --quiet      no progress and no remarks on standard error, only warnings and errors
  --debug      show a traceback where something goes wrong

exit codes: 0 everything was done; 1 something could not be done, the rest was; 2 the call was
wrong; 130 interrupted (Ctrl-C); 143 ended by SIGTERM. `train`, `prepare`, `study` and `caption
--output` keep what is done when they are interrupted; the message says how to resume.
"""

FLAGS = ("--debug", "--quiet")
"""Flags that may stand anywhere on the command line, up to a `--`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    own = given[: given.index("--")] if "--" in given else given
    debug = "--debug" in own
    console.open_streams()
    console.set_quiet("--quiet" in own)
    given = [one for i, one in enumerate(given) if one not in FLAGS or i >= len(own)]
    try:
        with sigterm_interrupts() as asked:
            return ended(given, debug, asked)
    finally:
        console.set_quiet(False)


def ended(arguments: list[str], debug: bool, asked: list[int]) -> int:
    """Run a command to its end, whatever that is; returns the exit code.

    Args:
        arguments: the command and its own.
        debug: whether errors show a traceback.
        asked: holds SIGTERM once that has arrived.
    """
    try:
        code = run(arguments)
        sys.stdout.flush()  # here, where a full disk can still be reported
        return code
    except CaptionerError as error:
        return failed(str(error), error.exit_code, debug)
    except KeyboardInterrupt as error:
        how, code = ("ended by SIGTERM", 143) if asked else ("interrupted", 130)
        return failed(f"{how}; {error}" if str(error) else how, code, debug)
    except BrokenPipeError:  # the reader has closed the pipe: `captioner … | head`
        discard_output()
        return 1
    except OSError as error:  # a full disk, a folder that may not be written
        discard_output()
        where = f"{error.filename}: " if error.filename else ""
        return failed(f"{where}{error.strerror or error}", 1, debug)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        reason = str(error) or type(error).__name__
        remedy = "make --batch-size or --beam-size smaller, in training data.batch_size"
        return failed(f"memory ran out ({reason}); {remedy}", 1, debug)


@contextlib.contextmanager
def sigterm_interrupts() -> Iterator[list[int]]:
    """Let SIGTERM end a command as Ctrl-C does; yields a list that then holds the signal.

    `train` and `study` install handlers of their own while they work.
    """
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # no place for handlers
        yield asked
        return
    process = os.getpid()

    def interrupt(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:  # a fork, which has nothing to keep
            os._exit(128 + number)
        asked.append(number)
        raise KeyboardInterrupt  # nothing on the way takes it for an error of its own

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)


def discard_output() -> None:
    """Send what is left of standard output nowhere, so that the interpreter can end quietly."""
    with contextlib.suppress(OSError, ValueError):  # captured by a test, it has no number
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(arguments: list[str]) -> int:
    """Hand over to the command that was named."""
    if not arguments:
        console.usage(HELP)
        return 2
    name, *rest = arguments
    if name in ("-h", "--help"):
        print(HELP, end="")
        return 0
    if name == "--version":
        print(f"captioner {__version__}")
        return 0
    if name not in COMMANDS:
        kind = "option" if name.startswith("-") else "command"
        raise UsageError(f"unknown {kind} {name!r}; {suggestion(name, list(COMMANDS))}")
    command = importlib.import_module(f"captioner.commands.{name}")
    code: int = command.run(rest)
    return code


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out, of the machine or of the device."""
    # By name: torch is not imported here.
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or "can't allocate memory" in str(error)


def failed(message: str, code: int, debug: bool) -> int:
    """Say in one line what went wrong."""
    if debug:
        traceback.print_exc()
    console.error(message)
    return code

"""The command line: dispatch to a command, and turn errors into one line and an exit code.

A command parses its flags before anything heavy is imported, so that `--help` and a mistyped flag
respond immediately. Exit codes by cause:

- 0: success. 1: something could not be done, the rest was. 2: the call was wrong. `CaptionerError`
  carries 1 or 2 (143 from `train`, which writes a checkpoint first).
- `OSError` or out of memory: 1; the message names the file if there is one.
- A closed pipe (`captioner ... | head`): 1, without a message.
- Ctrl-C: 130. SIGTERM: 143. Both raise `KeyboardInterrupt`, whose text states what is saved and how
  to resume.
- Any other exception is a bug and keeps its traceback.
"""

import atexit
import contextlib
import ctypes
import importlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from types import FrameType
from typing import NoReturn

from captioner import __version__, console
from captioner.commands import COMMANDS, FLAGS
from captioner.errors import CaptionerError, UsageError, suggestion

HELP = """\
usage: captioner COMMAND ...

CNN + RNN image captioning: train, search, score, compare.

commands:
  audit       check a data set for leakage between splits, and for damaged data
  prepare     write the vocabulary and image features of a data set
  train       train a captioner
  evaluate    score a checkpoint on a split, or a file of captions
  report      write a page about the captions of one or more models
  caption     write captions for photos
  inspect     draw gates, states and image reach, word by word
  demo        serve a page in the browser to drop photos on
  merge       join captions that several processes wrote in shares
  score       log-probabilities of given sentences for photos
  study       train a grid of configurations with several seeds, and compare them
  words       print nearest neighbours of words in the embeddings, or export them
  export      convert a checkpoint to safetensors, ONNX or torch.export
  push        publish a captioner on the Hugging Face hub
  completion  print a script for bash, zsh or fish that completes commands and flags

Run `captioner COMMAND --help` for the options of a command.

options:
  -h, --help   show this text and exit
  --version    show the version and exit

options of every command:
  --quiet      print only warnings and errors to standard error, no progress
  --debug      print a traceback when an error occurs

exit codes: 0 success; 1 something could not be done, the rest was; 2 the call was wrong;
130 interrupted (Ctrl-C); 143 ended by SIGTERM. When interrupted, `train`, `prepare`, `study` and
`caption --output` save their progress; the message says how to resume.
"""


QUICK = ("caption", "score")
"""Commands whose processes end without unloading torch."""

LARGEST_KEPT = 256 * 2**20, 32 * 2**20
"""Bytes of a block that may be kept when it is freed; glibc before 2.35 refuses the first limit."""

MOST_KEPT = 512 * 2**20
"""Free bytes at the end of the heap that are kept; those below a block in use always are."""


def entry() -> NoReturn:
    """Run the program: `main`, then exit with its code.

    While the C library unloads torch's CUDA libraries, it reads 110 MB of them into memory, as much
    as captioning a photo takes on top of torch. `caption` and `score` skip that: the interpreter
    first joins its threads and calls all other exit functions, because the one registered first is
    called last. After an unexpected exception, the interpreter exits as usual.
    """
    limit_spinning(os.environ)
    keep_freed_memory(os.environ)
    codes: list[int] = []
    if sys.argv[1:2] and sys.argv[1] in QUICK:
        atexit.register(leave, codes)
    codes.append(main())
    sys.exit(codes[0])


def limit_spinning(environment: MutableMapping[str, str]) -> None:
    """Let torch's threads sleep soon when they wait for each other; call it before torch loads.

    GNU's OpenMP spins for about a millisecond at each of the hundreds of meetings of a training
    step. If another program holds one core of two, that took ten times the processor time of the
    work itself. Settings of the user count.
    """
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", "1000")


def keep_freed_memory(environment: Mapping[str, str]) -> bool:
    """Let the C library keep freed memory for the next tensor, and return whether it does.

    A training step and a beam search free tensors of 10 to 150 MB and soon allocate others of that
    size. glibc returns some of that memory to the system, depending on size and place, and the
    system clears each page before it gives it back. On an Intel Xeon that took 6 to 9 % of a
    training step of 64 photos (V 9,488), 2 to 3 % of one of 10, and a sixth of the time of a beam
    search over 64 images in every third process.

    Settings of the user count. Other C libraries than glibc stay as they are.
    """
    tunables = environment.get("GLIBC_TUNABLES", "")
    if "glibc.malloc" in tunables or any(name.startswith("MALLOC_") for name in environment):
        return False
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    mmap_threshold, trim_threshold = -3, -1  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD of <malloc.h>
    taken = any(mallopt(mmap_threshold, limit) for limit in LARGEST_KEPT)
    return taken and bool(mallopt(trim_threshold, MOST_KEPT))


def leave(codes: Sequence[int]) -> None:
    """End the process with the exit code, if there is one."""
    if codes:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(codes[0])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
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
    """Run a command, report its errors, and return the exit code.

    Args:
        arguments: The command and its arguments.
        debug: Whether errors print a traceback.
        asked: Contains SIGTERM once that signal has arrived.
    """
    try:
        code = run(arguments)
        sys.stdout.flush()  # a full disk can still be reported here
        return code
    except CaptionerError as error:
        return failed(str(error), error.exit_code, debug)
    except KeyboardInterrupt as error:
        how, code = ("ended by SIGTERM", 143) if asked else ("interrupted", 130)
        return failed(f"{how}; {error}" if str(error) else how, code, debug)
    except BrokenPipeError:  # the reader closed the pipe: `captioner ... | head`
        discard_output()
        return 1
    except OSError as error:  # for example a full disk or a read-only folder
        discard_output()
        where = f"{error.filename}: " if error.filename else ""
        return failed(f"{where}{error.strerror or error}", 1, debug)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        reason = str(error) or type(error).__name__
        remedy = "reduce --batch-size or --beam-size, or data.batch_size in training"
        return failed(f"out of memory ({reason}); {remedy}", 1, debug)


@contextlib.contextmanager
def sigterm_interrupts() -> Iterator[list[int]]:
    """Let SIGTERM end a command as Ctrl-C does; yield a list that then contains the signal.

    `train` and `study` install their own handlers while they work.
    """
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # cannot install handlers
        yield asked
        return
    process = os.getpid()

    def interrupt(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:  # a forked child has nothing to save
            os._exit(128 + number)
        asked.append(number)
        raise KeyboardInterrupt  # no handler on the way catches it as an ordinary error

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)


def discard_output() -> None:
    """Discard the remaining standard output, so that the interpreter exits quietly."""
    with contextlib.suppress(OSError, ValueError):  # captured output has no file descriptor
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(arguments: list[str]) -> int:
    """Dispatch to the named command."""
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
    """Return whether an error means that the machine or the device is out of memory."""
    # Compare names, because torch is not imported here.
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or "can't allocate memory" in str(error)


def failed(message: str, code: int, debug: bool) -> int:
    """Print an error line, and return the exit code."""
    if debug:
        traceback.print_exc()
    console.error(message)
    return code

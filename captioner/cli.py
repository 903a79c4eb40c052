"""The command line: hands over to a command, and turns errors into one line and an exit code.

A command parses its flags before anything heavy is imported, so that `--help` and a mistyped flag
answer at once. Exit codes: 0 all went well; 1 something could not be done (the rest was); 2 the
call itself was wrong; 143 SIGTERM ended `train`, which wrote a checkpoint first.
"""

import importlib
import os
import sys
import traceback
from collections.abc import Sequence

from captioner import __version__
from captioner.display import one_line
from captioner.errors import CaptionerError, UsageError, suggestion

COMMANDS = ("audit", "prepare", "train", "evaluate", "caption", "study", "words", "export")
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
  study     train a grid of configurations x seeds and compare them
  words     neighbours of a word in a checkpoint's embeddings; export them
  export    a checkpoint as safetensors and JSON

`captioner COMMAND --help` tells the rest.

options:
  -h, --help   show this text
  --version    show the version
  --debug      show a traceback where something goes wrong (before or after the command)

exit codes: 0 all went well; 1 something could not be done; 2 the call was wrong;
143 `train` was asked to end (SIGTERM), and can go on from its checkpoint
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [argument for argument in given if argument != "--debug"]
    try:
        return run(given)
    except CaptionerError as error:
        return failed(str(error), error.exit_code, debug)
    except KeyboardInterrupt:
        return failed("interrupted", 130, debug)
    except BrokenPipeError:  # whoever read our output has had enough: `captioner … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # a full disk, a folder that may not be written
        where = f"{error.filename}: " if error.filename else ""
        return failed(f"{where}{error.strerror or error}", 1, debug)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        told = str(error) or type(error).__name__
        right = "make --batch-size or --beam-size smaller, in training data.batch_size"
        return failed(f"memory ran out ({told}); {right}", 1, debug)


def run(arguments: list[str]) -> int:
    """Hand over to the command that was named."""
    if not arguments:
        print(HELP, file=sys.stderr, end="")
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
    print(f"captioner: error: {one_line(' '.join(message.split()))}", file=sys.stderr)
    return code

"""Commands, one per file: the flags and the action of each.

`parser` is the `argparse` parser that every command uses. `search_flags` and `predictor_flags` hold
the flags that `caption` and `evaluate` share. A command imports torch only after its flags are
parsed, so that `--help` and a mistyped flag respond immediately.
"""

COMMANDS = (
    "audit",
    "prepare",
    "train",
    "evaluate",
    "report",
    "caption",
    "merge",
    "score",
    "inspect",
    "demo",
    "study",
    "words",
    "export",
    "push",
    "completion",
)
"""Each is a module here: `run(arguments)` returns the exit code, `build_parser()` has its flags."""

FLAGS = ("--debug", "--quiet")
"""Flags of every command, which may stand anywhere on the command line, up to a `--`."""

"""`captioner completion`: a script that completes commands, flags and their values in a shell."""

import argparse
import importlib
import re
from dataclasses import dataclass

from captioner.commands import COMMANDS, FLAGS
from captioner.commands.parser import Parser

SHELLS = ("bash", "zsh", "fish")

INSTALL = """\
bash:  captioner completion bash > ~/.local/share/bash-completion/completions/captioner
zsh:   captioner completion zsh > ~/.zfunc/_captioner   # ~/.zfunc must be in $fpath
fish:  captioner completion fish > ~/.config/fish/completions/captioner.fish
"""


@dataclass(frozen=True)
class Flag:
    """One flag of a command.

    Attributes:
        name: with its dashes.
        values: what may stand after it; empty where that is a file, a number or a text.
        takes_value: whether anything stands after it.
    """

    name: str
    values: tuple[str, ...] = ()
    takes_value: bool = True


def run(arguments: list[str]) -> int:
    """`captioner completion`: print the script of a shell."""
    options = build_parser().parse_args(arguments)
    print({"bash": bash, "zsh": zsh, "fish": fish}[options.shell](all_flags()), end="")
    return 0


def build_parser() -> Parser:
    """The flags of the command."""
    parser = Parser(
        prog="captioner completion",
        description="Print a script that completes commands, flags, settings and their values.",
        epilog=INSTALL,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shell", choices=SHELLS)
    return parser


def all_flags() -> dict[str, list[Flag]]:
    """The flags of every command, settings included where a command takes them."""
    from captioner.config.parser import config_parser

    found: dict[str, list[Flag]] = {}
    for command in COMMANDS:
        parser = importlib.import_module(f"captioner.commands.{command}").build_parser()
        actions = list(parser._actions)
        if command in ("audit", "study"):  # they pass settings on
            actions += config_parser(command, "")._actions
        flags = {flag.name: flag for action in reversed(actions) for flag in flags_of(action)}
        flags |= {name: Flag(name, takes_value=False) for name in FLAGS}
        if "--config" in flags:
            from captioner.config.named import config_names

            names = tuple(config_names(studies=command == "study"))
            flags["--config"] = Flag("--config", names)
        found[command] = sorted(flags.values(), key=lambda flag: flag.name)
    found["completion"] += [Flag(shell, takes_value=False) for shell in SHELLS]
    return found


def flags_of(action: argparse.Action) -> list[Flag]:
    """The long flags of an action of argparse or jsonargparse."""
    values = tuple(str(choice) for choice in action.choices or ())
    listed = re.fullmatch(r"\{(.*)\}", action.metavar) if isinstance(action.metavar, str) else None
    if listed:  # jsonargparse keeps choices here
        values = tuple(listed[1].split(","))
    if action.metavar == "CONFIG":  # `--data FILE`, a section from a file: seldom wanted
        return []
    names = [name for name in action.option_strings if name.startswith("--")]
    return [Flag(name, values, action.nargs != 0) for name in names]


def bash(commands: dict[str, list[Flag]]) -> str:
    """The script for bash 3.2 and later; files are completed where nothing else is known."""
    values = [
        f'        {command}:{flag.name}) words="{" ".join(flag.values)}" ;;'
        for command, flags in commands.items()
        for flag in flags
        if flag.values
    ]
    names = [
        f'        {command}) words="{" ".join(flag.name for flag in flags)}" ;;'
        for command, flags in commands.items()
    ]
    return "\n".join(
        [
            "# Completion of captioner for bash; made by `captioner completion bash`.",
            "_captioner() {",
            '    local current=${COMP_WORDS[COMP_CWORD]} before="" words="" command',
            "    ((COMP_CWORD == 0)) || before=${COMP_WORDS[COMP_CWORD-1]}",
            "    command=${COMP_WORDS[1]}",
            "    COMPREPLY=()",
            "    if ((COMP_CWORD == 1)); then",
            f'        words="{" ".join(commands)} --help --version"',
            "    fi",
            '    case "$command:$before" in',
            *values,
            "    esac",
            "    if [[ -z $words && ( $current == -* || $command == completion ) ]]; then",
            '        case "$command" in',
            *(f"    {line}" for line in names),
            "        esac",
            "    fi",
            '    [[ -z $words ]] || COMPREPLY=($(compgen -W "$words" -- "$current"))',
            "}",
            "complete -o default -o bashdefault -F _captioner captioner",
            "",
        ]
    )


def zsh(commands: dict[str, list[Flag]]) -> str:
    """The script for zsh."""
    values = [
        f"        {command}:{flag.name}) compadd -- {' '.join(flag.values)}; return ;;"
        for command, flags in commands.items()
        for flag in flags
        if flag.values
    ]
    names = [
        f"        {command}) compadd -- {' '.join(flag.name for flag in flags)} ;;"
        for command, flags in commands.items()
    ]
    return "\n".join(
        [
            "#compdef captioner",
            "# Completion of captioner for zsh; made by `captioner completion zsh`.",
            "_captioner() {",
            "    if ((CURRENT == 2)); then",
            f"        compadd -- {' '.join(commands)} --help --version",
            "        return",
            "    fi",
            '    case "$words[2]:$words[CURRENT-1]" in',
            *values,
            "    esac",
            "    if [[ $words[CURRENT] == -* || $words[2] == completion ]]; then",
            '        case "$words[2]" in',
            *(f"    {line}" for line in names),
            "        esac",
            "    else",
            "        _files",
            "    fi",
            "}",
            'if [[ $funcstack[1] == _captioner ]]; then _captioner "$@"; '
            "else compdef _captioner captioner; fi",
            "",
        ]
    )


def fish(commands: dict[str, list[Flag]]) -> str:
    """The script for fish."""
    lines = [
        "# Completion of captioner for fish; made by `captioner completion fish`.",
        f"complete -c captioner -f -n __fish_use_subcommand -a '{' '.join(commands)}'",
        "complete -c captioner -n __fish_use_subcommand -l help",
        "complete -c captioner -n __fish_use_subcommand -l version",
    ]
    for command, flags in commands.items():
        start = f"complete -c captioner -n '__fish_seen_subcommand_from {command}'"
        for flag in flags:
            if not flag.name.startswith("--"):
                lines.append(f"{start} -f -a {flag.name}")
                continue
            after = f" -x -a '{' '.join(flag.values)}'" if flag.values else " -r"
            lines.append(f"{start} -l {flag.name[2:]}{after if flag.takes_value else ''}")
    return "\n".join(lines) + "\n"

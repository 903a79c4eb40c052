"""From YAML files and dotted flags to a checked `Config`; every mistake in one line.

jsonargparse makes flags from the dataclasses, layers `--config` files and checks types. Its error
messages are rewritten to name the file, the key and what would be right.
"""

import re
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from jsonargparse import ArgumentError, ArgumentParser, set_parsing_settings

from captioner.config.checks import check
from captioner.config.hardware import check_names
from captioner.config.help import requested_help
from captioner.config.named import with_config_paths, with_start
from captioner.config.schema import Config
from captioner.config.settings import from_dict
from captioner.errors import CaptionerError, UsageError, shown, suggestion
from captioner.files.regular import read_regular

MAX_BYTES = 2**17
"""Most bytes of a YAML file; PyYAML takes seconds for a megabyte."""

MAX_VALUES = 10_000
"""Most values in a file; what aliases repeat counts each time."""

MAX_DIGITS = 100
"""Most characters of a number."""

MAX_DEPTH = 100
"""Deepest nesting of lists and mappings."""

SYNONYMS = {
    "lr": "optimization.learning_rate",
    "learning_rate": "optimization.learning_rate",
    "wd": "optimization.weight_decay",
    "epochs": "trainer.max_epochs",
    "num_epochs": "trainer.max_epochs",
    "batch": "data.batch_size",
    "bs": "data.batch_size",
    "batch_size": "data.batch_size",
    "num_workers": "data.workers",
    "gpus": "trainer.devices",
    "gpu": "trainer.devices",
    "device": "trainer.accelerator",
    "clip": "trainer.gradient_clip_val",
    "grad_clip": "trainer.gradient_clip_val",
    "fp16": "trainer.precision",
    "amp": "trainer.precision",
    "rnn": "decoder.cell",
    "units": "decoder.hidden_size",
    "hidden": "decoder.hidden_size",
    "embed_size": "decoder.embedding_size",
    "embedding_dim": "decoder.embedding_size",
    "backbone": "encoder.name",
    "model": "encoder.name",
    "cnn": "encoder.name",
    "dataset": "data.format",
    "data_dir": "data.root",
    "root": "data.root",
    "out": "output",
    "output_dir": "output",
    "beam": "search.beam_size",
    "beams": "search.beam_size",
    "num_beams": "search.beam_size",
    "early_stopping": "optimization.patience",
    "min_freq": "vocabulary.min_count",
    "threshold": "vocabulary.min_count",
}
"""Names that other programs use for a setting."""


def config_parser(command: str, description: str) -> ArgumentParser:
    """Return a parser of `--config FILE` (several are layered) and of a flag for every setting."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = ArgumentParser(
        prog=f"captioner {command}",
        usage=f"captioner {command} [--config NAME] [--SECTION.SETTING VALUE ...]",
        description=description,
        exit_on_error=False,
    )
    parser.add_argument(
        "--config",
        action="config",
        help="YAML file of settings, or the name of one: shapes, coco, …; later ones win.",
    )
    parser.add_class_arguments(Config, as_group=False)
    return parser


def parse_config(
    parser: ArgumentParser,
    arguments: Sequence[str],
    inherit: Callable[[Any], Mapping[str, Any]] | None = None,
) -> tuple[Config, Any]:
    """Parse arguments into a configuration; return it with all parsed arguments.

    Arguments that ask for help print it and exit.

    Args:
        parser: From `config_parser`.
        arguments: The command line without the command.
        inherit: Returns the defaults of a run that fine-tunes a checkpoint, by dotted name, from
            all parsed arguments.

    Raises:
        UsageError: A file, key or value is wrong.
    """
    if (text := requested_help(parser, arguments)) is not None:
        print(text, end="")
        parser.exit()
    arguments = with_config_paths(with_start(arguments))
    for path in config_files(arguments):
        check_file(parser, path)
    parsed = parsed_arguments(parser, arguments)
    if inherit is not None and parsed.finetune.checkpoint is not None:
        parser.set_defaults(dict(inherit(parsed)))
        parsed = parsed_arguments(parser, arguments)
    config = from_dict(Config, parsed.as_dict())
    check(config)
    check_names(config.trainer)
    return config, parsed


def parsed_arguments(parser: ArgumentParser, arguments: Sequence[str]) -> Any:
    """Parse arguments, with errors in the words of this program.

    Raises:
        UsageError: A flag, key or value is wrong.
    """
    try:
        return parser.parse_args(arguments)
    except (ArgumentError, TypeError, ValueError) as error:
        raise UsageError(in_our_words(str(error))) from error


def read_config(path: Path) -> Config:
    """Read one YAML file over the defaults."""
    return parse_config(config_parser("train", ""), ["--config", str(path)])[0]


def config_files(arguments: Sequence[str]) -> Iterator[Path]:
    """Yield the files named by `--config`."""
    for i, argument in enumerate(arguments):
        if argument == "--config" and i + 1 < len(arguments):
            yield Path(arguments[i + 1])
        elif argument.startswith("--config="):
            yield Path(argument.removeprefix("--config="))


def check_file(parser: ArgumentParser, path: Path) -> None:
    """Check one YAML file by itself, so that an error can name the file.

    Raises:
        UsageError: It does not exist, is not YAML, or holds an unknown key or a wrong value.
    """
    values = read_yaml(path)
    if values is None:
        return
    try:
        check_keys(values, Config, "")
        parser.parse_object(values)
    except (ArgumentError, TypeError, ValueError, UsageError) as error:
        raise UsageError(f"{path}: {in_our_words(str(error))}") from error


def read_yaml(path: Path) -> Any:
    """Return the contents of a YAML file; None if it is empty.

    Raises:
        UsageError: It does not exist, is not YAML, or is too large for a file of settings.
    """
    try:
        text = read_regular(path, MAX_BYTES).decode()
        check_nodes(yaml.compose(text, Loader=yaml.SafeLoader))
        values = yaml.safe_load(text)
        check_amount(values)
        return values
    except FileNotFoundError as error:
        raise UsageError(f"--config: no file {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--config: {path} cannot be read: {error}") from error
    except CaptionerError as error:
        raise UsageError(
            f"{path}: has more than {MAX_BYTES:,} bytes: no file of settings"
        ) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise UsageError(f"{path}{line}: not valid YAML: {problem}") from error
    except RecursionError as error:
        raise UsageError(f"{path}: nested too deeply") from error
    # PyYAML's own errors, for instance over "2020-13-45", "!!int abc", "!!timestamp x", "!!bool 3".
    except (ValueError, TypeError, AttributeError, KeyError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{path}: a value that cannot be read: {reason}") from error


def check_nodes(root: yaml.Node | None) -> None:
    """Check a YAML document before its values are built; an alias is one node in many places.

    A merge key (``<<: [*a, *a]``) copies what it names, so a few lines of merges of merges make
    gigabytes while values are built. This counts what a node expands to without expanding it.

    Raises:
        ValueError: too many values, nested too deeply, in itself, a number too long, or a key that
            stands twice.
    """
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: yaml.Node) -> int:
        if id(node) in open_nodes:
            raise ValueError("too many values, or nested too deeply: in itself")
        if id(node) in sizes:
            return sizes[id(node)]
        if len(open_nodes) > MAX_DEPTH:
            raise ValueError("too many values, or nested too deeply")
        open_nodes.add(id(node))
        count = 1 + sum(map(size, _inner(node)))
        open_nodes.discard(id(node))
        if count > MAX_VALUES:
            raise ValueError("too many values, or nested too deeply")
        sizes[id(node)] = count
        return count

    if root is not None:
        size(root)


def _inner(node: yaml.Node) -> list[yaml.Node]:
    """Check a node by itself and return the nodes in it."""
    if isinstance(node, yaml.MappingNode):
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            name = (key.tag, key.value)
            if name in seen:
                raise _TwiceError(key.value, key.start_mark.line + 1)
            seen.add(name)
        return [inner for pair in node.value for inner in pair]
    if isinstance(node, yaml.SequenceNode):
        return list(node.value)
    number = node.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
    if number and len(node.value) > MAX_DIGITS:
        raise ValueError(f"a number of {len(node.value):,} digits; at most {MAX_DIGITS}")
    return []


class _TwiceError(ValueError):
    """A key stands twice in one mapping; YAML forbids it, and PyYAML takes the last."""

    def __init__(self, key: str, line: int) -> None:
        super().__init__(f"line {line}: the key {shown(key)} stands twice; remove one")


def check_amount(values: Any) -> None:
    """Refuse aliases of aliases, which expand a few lines to gigabytes, and invalid text.

    Raises:
        ValueError: more values, deeper nesting or other text than settings have.
    """
    left = [(values, 0)]
    counted = 0
    while left:
        value, depth = left.pop()
        counted += 1
        if depth > MAX_DEPTH or counted + len(left) > MAX_VALUES:
            raise ValueError("too many values, or nested too deeply")
        if isinstance(value, str):
            value.encode()  # half a surrogate pair is a UnicodeEncodeError, which is a ValueError
        elif isinstance(value, Mapping):
            left += [(inner, depth + 1) for pair in value.items() for inner in pair]
        elif isinstance(value, (list, set)):
            left += [(inner, depth + 1) for inner in value]


def check_keys(values: Any, cls: type, prefix: str) -> None:
    """Refuse keys that no setting has.

    Raises:
        UsageError: an unknown key, with the nearest known one; or a value where settings belong.
    """
    names = [f.name for f in fields(cls)]
    if not isinstance(values, Mapping):
        where = prefix.removesuffix(".") or "the file"
        raise UsageError(
            f"{where} must hold settings ({', '.join(names)}), not {reprlib.repr(values)}"
        )
    hints = get_type_hints(cls)
    for key, value in values.items():
        if key not in names:
            raise UsageError(f"unknown setting {prefix}{key}; {suggest_setting(f'{prefix}{key}')}")
        if is_dataclass(hints[key]):
            check_keys(value, hints[key], f"{prefix}{key}.")


def settings(cls: type = Config, prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of all settings."""
    hints = get_type_hints(cls)
    for f in fields(cls):
        if is_dataclass(hints[f.name]):
            yield from settings(hints[f.name], f"{prefix}{f.name}.")
        else:
            yield prefix + f.name


def suggest_setting(name: str) -> str:
    """Suggest the setting that was meant: in the same group, or else anywhere."""
    known = [*settings(), "config", "from", "initial", "resume"]
    group, _, last = name.rpartition(".")
    last = last.replace("-", "_")
    inside = [s.removeprefix(f"{group}.") for s in settings() if s.startswith(f"{group}.")]
    if group and inside:
        hint = suggestion(last, inside)
        return re.sub(r"did you mean (\S+)\?", rf"did you mean {group}.\1?", hint)
    if SYNONYMS.get(last) in known:
        return f"did you mean {SYNONYMS[last]}?"
    # A name without its group, or the beginning of one: batch_size, data.batch_size.
    for fits in (str.__eq__, str.startswith):
        found = [one for one in known if fits(one.rpartition(".")[2], last)]
        if last and 1 <= len(found) <= 3:
            return f"did you mean {' or '.join(found)}?"
    return suggestion(name, known)


def in_our_words(message: str) -> str:
    """Rewrite an error message of jsonargparse as one line."""
    message = " ".join(message.split())
    if match := re.match(r"unrecognized arguments: (\S+)", message):
        flag = match[1]
        if not flag.startswith("--"):
            return f"unexpected argument {flag!r}; settings are given as --name value"
        name = flag.removeprefix("--").split("=")[0]
        return f"unknown flag --{name}; {suggest_setting(name)}"
    if match := re.match(r"Group '(.+)' does not accept option '(.+)'", message):
        name = f"{match[1]}.{match[2]}"
        return f"unknown setting {name}; {suggest_setting(name)}"
    if match := re.match(r'Parser key "(.+?)": (.*)(?:Got|Given) value: (.*?)\.?$', message):
        return f"{match[1]}: expected {expected(match[2])}, not {match[3][:80]!r}"
    return message


def expected(text: str) -> str:
    """Say what a setting takes, from jsonargparse's description of its type."""
    choices = re.findall(r"Literal\[(.*?)\]", text)
    if choices:
        return "one of " + choices[0].replace("'", "")
    names = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}
    found = [
        words
        for name, words in names.items()
        if re.search(rf"\b{name}\b", text.split("Given value type")[0])
    ]
    if "NoneType" in text or "None" in text:
        found.append("null")
    return " or ".join(found) or "another type"

"""The description of exported graphs: vocabulary, transform and search options, as JSON.

A folder of `captioner export --format onnx` or `pt2` holds three graphs (see
`captioner.checkpoint.graphs`) and this description, `graphs.json`. Nothing here imports torch. The
folder may be untrusted: its description is checked here, its graphs in `onnx_file`.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from captioner import __version__
from captioner.checkpoint.plain import check_own_search, check_plain, check_words, must
from captioner.config.schema import SearchConfig
from captioner.config.settings import from_dict
from captioner.decoding.options import MOST, SearchOptions
from captioner.errors import CaptionerError, UsageError
from captioner.files.json_file import MAX_SMALL_BYTES, read_json
from captioner.photos.transform import Transform
from captioner.text.vocabulary import END, PAD, START, UNKNOWN, Vocabulary

DESCRIPTION = "graphs.json"

GRAPHS = ("encoder", "begin", "step")
"""The graphs of a folder, by name."""

FORMAT_VERSION = 1
"""Version of the description; others are refused."""

Signature = Mapping[str, tuple[str, list[int | str]]]
"""Dtype and shape of inputs or outputs by name; a text stands for a dynamic size."""


@dataclass(frozen=True)
class GraphFolder:
    """A folder of exported graphs.

    Attributes:
        folder: Where it is.
        kind: `onnx` or `pt2`.
        vocabulary: The words.
        transform: Turns a photo into the encoder's input.
        search_config: The captioner's own search settings.
        backward: Whether the decoder reads captions from the last word to the first.
        attention: What attends (`captioner.model.attention.Kind`), or `none`.
        at_once: Most photos that the encoder may process together; None if any number.
        signatures: Inputs and outputs of each graph.
        details: Opset and quantisation, for readers.
    """

    folder: Path
    kind: str
    vocabulary: Vocabulary
    transform: Transform
    search_config: SearchConfig
    backward: bool
    attention: str
    at_once: int | None
    signatures: Mapping[str, tuple[Signature, Signature]]
    details: Mapping[str, Any]

    def graph(self, name: str) -> Path:
        """Return the file of a graph."""
        return self.folder / f"{name}.{self.kind}"

    @property
    def files(self) -> list[Path]:
        """All files of the folder."""
        return [self.folder / DESCRIPTION, *map(self.graph, GRAPHS)]

    def search(self, given: Collection[str] = ()) -> SearchOptions:
        """Return the captioner's own search options, which must not exceed the limits.

        Args:
            given: Names of options that the user gives; these are not checked.

        Raises:
            CaptionerError: An option exceeds its limit.
        """
        bytes_a_weight = 4 if self.details.get("quantized") is None else 1
        weights = self.graph("step").stat().st_size // bytes_a_weight
        check_own_search(self.search_config, weights, given, self.folder)
        return SearchOptions(**asdict(self.search_config))

    def description(self) -> dict[str, Any]:
        """Return the content of `graphs.json`."""
        return {
            "format_version": FORMAT_VERSION,
            "program_version": __version__,
            "format": self.kind,
            **self.details,
            "vocabulary": list(self.vocabulary.words),
            "tokenizer": self.vocabulary.tokenizer,
            "special_words": {"pad": PAD, "start": START, "end": END, "unknown": UNKNOWN},
            "transform": self.transform.asdict(),
            "search": asdict(self.search_config),
            "direction": "backward" if self.backward else "forward",
            "attention": self.attention,
            "encoder_batch": self.at_once,
            "graphs": {
                name: {"file": self.graph(name).name, "inputs": inputs, "outputs": outputs}
                for name, (inputs, outputs) in self.signatures.items()
            },
        }


def description_text(folder: GraphFolder) -> str:
    """Return `graphs.json`."""
    return json.dumps(folder.description(), ensure_ascii=False) + "\n"


def read_graph_folder(folder: Path) -> GraphFolder:
    """Read and check the description of a folder.

    Raises:
        UsageError: The folder is no export of graphs, or of a newer version.
        CaptionerError: The description is damaged.
    """
    file = folder / DESCRIPTION
    if not file.is_file():
        raise UsageError(
            f"{folder}: has no {DESCRIPTION}; write it with `captioner export --checkpoint P "
            f"--format onnx --output FOLDER`"
        )
    values = read_json(file, MAX_SMALL_BYTES)
    try:
        must(isinstance(values, dict), "the description", "an object")
        assert isinstance(values, dict)
        found = _parsed(folder, values)
    except (KeyError, TypeError, AttributeError, ValueError, CaptionerError) as error:
        if isinstance(error, UsageError) and str(file) in str(error):
            raise
        reason = " ".join(str(error).split())[:200]
        missing = f"{reason} is missing" if isinstance(error, KeyError) else reason
        raise CaptionerError(f"{file}: damaged: {missing}") from error
    for path in found.files:
        if not path.is_file():
            raise UsageError(f"{path}: no such file; export the captioner again")
    return found


def _parsed(folder: Path, values: dict[str, Any]) -> GraphFolder:
    version = values.get("format_version")
    must(type(version) is int, "format_version", "a whole number")
    if version != FORMAT_VERSION:
        raise UsageError(
            f"{folder / DESCRIPTION}: written by captioner {values.get('program_version')}, whose "
            "exports this version does not read; update captioner"
        )
    kind, words = values["format"], values["vocabulary"]
    must(kind in ("onnx", "pt2"), "format", "onnx or pt2")
    must(isinstance(words, list), "vocabulary", "a list")
    check_words(words)
    check_plain({name: value for name, value in values.items() if name != "vocabulary"})
    search = from_dict(SearchConfig, values["search"])
    for name in ("beam_size", "max_length"):
        size = getattr(search, name)
        must(type(size) is int and 0 < size <= MOST, f"search.{name}", f"1 to {MOST:,}")
    SearchOptions(**asdict(search))  # checks the others
    at_once = values["encoder_batch"]
    whole = at_once is None or (type(at_once) is int and at_once > 0)
    must(whole, "encoder_batch", "a positive whole number or null")
    direction, attention = values["direction"], values["attention"]
    must(direction in ("forward", "backward"), "direction", "forward or backward")
    must(isinstance(attention, str), "attention", "a text")
    signatures = {
        name: (
            _signature(values["graphs"][name], "inputs"),
            _signature(values["graphs"][name], "outputs"),
        )
        for name in GRAPHS
    }
    return GraphFolder(
        folder,
        kind,
        Vocabulary(words, values["tokenizer"]),
        Transform.from_dict(values["transform"]),
        search,
        direction == "backward",
        attention,
        at_once,
        signatures,
        {name: values.get(name) for name in ("opset", "quantized")},
    )


def _signature(graph: Mapping[str, Any], which: str) -> Signature:
    """Return the inputs or outputs of a graph, checked."""
    found: dict[str, tuple[str, list[int | str]]] = {}
    for name, (dtype, shape) in graph[which].items():
        must(isinstance(dtype, str), f"{which}.{name}", "a dtype and a shape")
        sizes = isinstance(shape, list) and all(type(size) in (int, str) for size in shape)
        must(sizes, f"{which}.{name}", "a dtype and a shape")
        found[name] = (dtype, shape)
    return found

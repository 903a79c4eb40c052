r"""Make untrusted text safe for terminals, records and spreadsheets.

Vocabulary words, captions, file names and error texts are untrusted data. Written raw, they could
move the cursor, change the terminal's title, forge a record or start a formula. All output of the
program passes through one of these functions:

- `one_line`: a message, a table cell, a field of a text record. Unsafe characters become visible
  escapes (`\x1b`, `\n`, `\u202e`).
- `csv_cell`: a cell of a CSV file; it also cannot start a formula.
- `json_line`: JSON, which keeps the exact text and is always valid UTF-8.
"""

import json
import re

_UNSAFE = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # control characters: C0, DEL, C1
    "\u2028\u2029"  # line and paragraph separators
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f"  # marks that reorder or reshape text
    "\ufff9-\ufffb"  # interlinear annotation
    "\ud800-\udfff"  # surrogates: halves of a character, and bytes that are not UTF-8
    "]"
)

_FORMULA = re.compile("'*[=+\\-@\uff1d\uff0b\uff0d\uff20]")
"""Start of a cell that a spreadsheet may evaluate; full-width signs count in some locales."""

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def one_line(text: str) -> str:
    r"""Replace unsafe characters by visible escapes, for one line of a terminal.

    Tabs and line ends are escaped too, so the text cannot forge a column or a record. A byte of a
    file name that is not UTF-8 appears as `\xff`. Other text is unchanged, in any language.

    Example:
        >>> print(one_line("a\x1b[2J\nb"))
        a\x1b[2J\nb
    """
    return _UNSAFE.sub(_escape, text)


def is_one_line(text: str) -> bool:
    """Return whether `one_line` leaves a text unchanged."""
    return _UNSAFE.search(text) is None


def blank_out(text: str) -> str:
    """Replace unsafe characters by spaces, so that no word of a vocabulary contains one."""
    return _UNSAFE.sub(" ", text)


def csv_cell(text: str) -> str:
    """Make a text safe for a CSV cell: one line, and never a formula.

    A text that begins with `=`, `+`, `-` or `@` (or their full-width forms) is prefixed by an
    apostrophe, which marks text in spreadsheets. A text that begins with apostrophes and such a
    sign gets one more, so `from_csv_cell` restores the text exactly. Tab and carriage return, which
    can also start formulas, become visible escapes.

    Example:
        >>> csv_cell("=1+1")
        "'=1+1"
    """
    text = one_line(text)
    return f"'{text}" if _FORMULA.match(text) else text


def from_csv_cell(cell: str) -> str:
    """Undo `csv_cell`'s apostrophe."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def json_line(value: object, *, indent: int | None = None) -> str:
    r"""Format a value as JSON that is safe to print and keeps its exact text.

    Unsafe characters become JSON escapes (`\u001b`); other text is unchanged. So the result is
    valid UTF-8 and parses to the same value.

    Raises:
        ValueError: A number is infinite or NaN, which JSON cannot represent.
    """
    text = json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False)
    # json.dumps escapes C0 already; remaining line ends are indentation.
    return _UNSAFE.sub(
        lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", text
    )


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # Python's surrogate for a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return _SHORT.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")

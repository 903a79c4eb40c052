import json

import pytest

from captioner.errors import UsageError
from captioner.files.atomic import check_folder, write_whole
from captioner.tables import FORMATS, Table, render

TABLE = Table(("score", "A_1 | B"), (("BLEU-1", "61.0"), ("CIDEr-D", "8.1 ± 2")), "50 % of #1")
NOTES = ("note: x*y", "scores x 100; images:3|version:1")


def drawn(form: str) -> str:
    return render(form, [TABLE], NOTES, {"scores": {"BLEU-1": 0.61}})


def test_plain() -> None:
    assert drawn("table").splitlines() == [
        "50 % of #1",
        "score    A_1 | B",
        "BLEU-1      61.0",
        "CIDEr-D  8.1 ± 2",
        "",
        *NOTES,
    ]


def test_markdown_keeps_its_columns_and_the_recipe() -> None:
    assert drawn("markdown").splitlines() == [
        "**50 % of #1**",
        "",
        "| score | A\\_1 \\| B |",
        "| :-- | --: |",
        "| BLEU-1 | 61.0 |",
        "| CIDEr-D | 8.1 ± 2 |",
        "",
        "note: x\\*y  ",
        "scores x 100; images:3\\|version:1",
    ]


def test_latex_escapes_and_carries_the_recipe_in_its_caption() -> None:
    text = drawn("latex")
    assert "    score & A\\_1 \\textbar{}\\allowbreak{} B \\\\\n" in text
    assert "    CIDEr-D & 8.1 $\\pm$ 2 \\\\\n" in text
    assert "\\begin{tabular}{lr}" in text
    assert (
        "  \\caption{50 \\% of \\#1. note: x*y. "
        "scores x 100; images:3\\textbar{}\\allowbreak{}version:1.}\n"
    ) in text
    assert text.count("{") == text.count("}")
    assert text.count("\\begin") == text.count("\\end")


def test_json_is_the_content() -> None:
    assert json.loads(drawn("json")) == {"scores": {"BLEU-1": 0.61}}
    odd = render("json", [], [], {"file": "\udce4.json"})
    odd.encode()
    assert json.loads(odd) == {"file": "\udce4.json"}
    with pytest.raises(ValueError, match="nan"):
        render("json", [], [], {"score": float("nan")})


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_ends_without_a_line_end(form: str) -> None:
    assert not drawn(form).endswith("\n")


def test_files_are_whole_and_folders_are_looked_for_beforehand(tmp_path) -> None:
    write_whole(tmp_path / "a.csv", "x\n")
    assert [file.name for file in tmp_path.iterdir()] == ["a.csv"]
    check_folder(None, "--output")
    check_folder(str(tmp_path / "b"), "--output")
    with pytest.raises(UsageError, match=r"--output: no folder .*none"):
        check_folder(str(tmp_path / "none" / "b"), "--output")
    with pytest.raises(UsageError, match=r"--output: .* is a folder; name a file in it"):
        check_folder(str(tmp_path), "--output")

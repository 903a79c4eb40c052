"""What a mistyped name is answered with: the beginning first, then other names, then spelling."""

import pytest

from captioner.cli import main
from captioner.config.parser import SYNONYMS, settings
from captioner.errors import suggestion


def test_the_order_of_what_is_near() -> None:
    names = ["--ban", "--beam-size", "--device", "--devices"]
    assert suggestion("--beam", names) == "did you mean --beam-size?"
    assert suggestion("--dev", names) == "did you mean --device or --devices?"
    assert suggestion("--Beam-Size", names) == "did you mean --beam-size?"
    assert suggestion("--gpu", names, {"gpu": "--device"}) == "did you mean --device?"
    assert suggestion("--bxn", names) == "did you mean --ban?"
    assert suggestion("--", names).startswith("choose one of --ban, ")
    assert suggestion("cider-d", ["BLEU", "CIDEr-D", "CIDEr"]) == "did you mean CIDEr-D?"


@pytest.mark.parametrize("synonym", SYNONYMS)
def test_synonyms_name_settings(synonym: str) -> None:
    assert SYNONYMS[synonym] in settings()


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["caption", "x", "--checkpoint", "p", "--beam", "3"], "--beam-size"),
        (["caption", "x", "--checkpoint", "p", "--num-beams", "3"], "--beam-size"),
        (["caption", "x", "--checkpoint", "p", "--no-repeat", "3"],
         "--no-repeat-ngram or --no-repeat-word"),
        (["train", "--lr", "0.1"], "optimization.learning_rate"),
        (["train", "--optimizer.lr", "0.1"], "optimization.learning_rate"),
        (["train", "--hidden_size", "3"], "decoder.hidden_size"),
        (["train", "--max_ep", "3"], "trainer.max_epochs"),
    ],
)  # fmt: skip
def test_commands(arguments: list[str], meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err.rstrip().endswith(f"did you mean {meant}?")

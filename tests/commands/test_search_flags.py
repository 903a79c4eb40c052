"""What `caption` and `evaluate` are asked about the search: flags, wishes, ensembles, recipes."""

import json
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import WORDS, make_photo, save_checkpoint, tiny_config, write_jsonl

from captioner import checkpoint
from captioner.cli import main
from captioner.commands.parser import Parser
from captioner.commands.search_flags import add_search_arguments, chosen_search
from captioner.config.schema import DataConfig, DecoderConfig, EncoderConfig
from captioner.decoding.options import SampleOptions, SearchOptions
from captioner.errors import UsageError
from captioner.inference.phrases import Wording
from captioner.inference.predictor import Predictor
from captioner.inference.strategy import Strategy

Capture = pytest.CaptureFixture[str]


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def records(capsys: Capture, *arguments: object) -> list[dict[str, Any]]:
    assert run("caption", *arguments, "--format", "jsonl") == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def texts(found: Iterable[dict[str, Any]]) -> list[list[str]]:
    """The captions of each image, without numbers, whose last digit batches may change."""
    return [[one["caption"] for one in record.get("candidates", [])] for record in found]


@pytest.fixture(scope="session")
def other_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another cell, another encoder, another size of photo; the same words."""
    config = tiny_config(
        encoder=EncoderConfig(name="mobilenet_v3_small", weights="none", size=32),
        decoder=DecoderConfig(cell="lstm", embedding_size=6, hidden_size=10, layers=2),
    )
    return save_checkpoint(tmp_path_factory.mktemp("other") / "other.ckpt", config, seed=1)


def test_a_beam_may_be_wider_than_the_vocabulary(
    tiny_checkpoint: Path, photos: list[Path], capsys: Capture
) -> None:
    arguments = ["--checkpoint", tiny_checkpoint, "--format", "jsonl", "--n-best", 12]
    assert run("caption", photos[0], *arguments) == 0
    (record,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert len(record["candidates"]) == 12


def test_a_beam_of_too_many_scores(
    tiny_checkpoint: Path,
    photos: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    monkeypatch.setattr("captioner.inference.strategy.MOST_SCORES", 40)
    arguments = ["--checkpoint", tiny_checkpoint, "--beam-size", 4]
    assert run("caption", photos[0], *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "beam_size: 4 is too wide for a vocabulary of 11 words, at most 3" in line


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--sample 3 --beam-size 2", "--beam-size applies to beam search; remove it or --sample"),
        ("--sample 3 --groups 2", "--groups applies to beam search"),
        ("--sample 3 --require dog", "--require applies to beam search"),
        ("--top-p 0.9", "--top-p applies to samples; add --sample N or remove it"),
        ("--sample 2 --seed -1", "not a whole number of at least 0"),
        ("--rerank score", "--rerank applies to samples"),
        ("--rerank cider", "invalid choice: 'cider'"),
        ("--sample 3 --n-best 2", "--n-best: samples have no order; add --rerank score"),
        ("--sample 3 --rerank score --n-best 4", "--n-best 4: at most the 3 captions of"),
        ("--sample 3 --temperature 0", "temperature: 0 is not above 0"),
        ("--sample 3 --top-p 1.5", "top_p: 1.5 is not in the range above 0 up to 1"),
        ("--beam-size 1000000000", "beam_size: 1000000000 is too large; at most 10,000"),
        ("--max-length 1000000000", "max_length: 1000000000 is too large; at most 10,000"),
        ("--sample 1000000000", "samples: 1000000000 is too large; at most 10,000"),
        ("--sample 0", "not a whole number of at least 1"),
        ("--n-best 3 --beam-size 2", "n_best: 3 is more than beam_size 2"),
        ("--groups 2 --beam-size 3", "groups: 2 does not divide beam_size 3"),
        ("--diversity 1", "--diversity requires groups; add --groups G"),
        ("--min-length 9 --max-length 5", "min_length: 9 is more than max_length 5"),
        ("--length-alpha 0.7", "--length-alpha requires --length-norm gnmt"),
        ("--word-reward nan", "word_reward: nan is not a finite number"),
        ("--ensemble probability", "--ensemble requires several checkpoints; repeat --checkpoint"),
        ("--require dgo", "require: the captioner does not know 'dgo'; did you mean dog?"),
        ("--ban kat", "ban: the captioner does not know 'kat'; did you mean cat?"),
        ("--ban-ending xyzzy", "does not know 'xyzzy'; choose one of a, red, dog"),
        ("--require ...", "require: '...' has no words"),
        ("--require <unk>", "require: the captioner does not know '<unk>'"),
        ("--require Red;dog --ban red", "require: 'Red;dog' holds 'red', which ban forbids"),
        ("--require a;dog;a --no-repeat-ngram 1", "repeats 1 word, which no_repeat_ngram 1"),
        ("--require a;a --no-repeat-word", "says a word twice, which no_repeat_word forbids"),
        ("--require a;red;dog --max-length 2", "3 required words do not fit into max_length 2"),
    ],
)
def test_contradictions_are_one_line(
    tiny_checkpoint: Path, photos: list[Path], flags: str, message: str, capsys: Capture
) -> None:
    words = [word.replace(";", " ") for word in flags.split()]
    arguments = [*words, "--checkpoint", tiny_checkpoint, "--format", "jsonl"]
    assert run("caption", photos[0], *arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("captioner: error: ")
    assert message.replace(";", " ") in line.replace(";", " ")


def test_one_caption_a_photo_outside_of_json_lines(
    tiny_checkpoint: Path, photos: list[Path], capsys: Capture
) -> None:
    call = ("caption", photos[0], "--checkpoint", tiny_checkpoint)
    assert run(*call, "--n-best", 2) == 2
    assert "--format text holds one caption per photo, not 2" in capsys.readouterr().err
    assert run(*call, "--sample", 4, "--format", "csv") == 2
    assert "--format csv holds one caption per photo, not 4" in capsys.readouterr().err
    assert run(*call, "--sample", 4, "--rerank", "consensus") == 0


def test_candidates_hold_their_probabilities_word_by_word(
    tiny_checkpoint: Path, photos: list[Path], capsys: Capture
) -> None:
    flags = ("--n-best", 4, "--length-norm", "gnmt", "--length-alpha", 1, "--word-reward", 0.1)
    for record in records(capsys, *photos, "--checkpoint", tiny_checkpoint, *flags):
        assert record["candidates"][0]["caption"] == record["caption"]
        assert record["candidates"][0]["log_prob"] == record["log_prob"]
        for one in record["candidates"]:
            assert sum(one["word_log_probs"]) == pytest.approx(one["log_prob"], abs=1e-4)
            n = len(one["words"])
            assert len(one["word_log_probs"]) == n
            assert (one["words"][-1] == "<end>") == (n < 6 or one["caption"].count(" ") < 5)
            assert " ".join(one["words"]).removesuffix(" <end>") == one["caption"]
            score = one["log_prob"] / ((5 + n) / 6) + 0.1 * n
            assert one["score"] == pytest.approx(score, abs=1e-4)


def test_wording_holds_for_every_candidate(
    tiny_checkpoint: Path, photos: list[Path], capsys: Capture
) -> None:
    flags = ("--beam-size", 6, "--n-best", 3, "--require", "Red dog", "--require", "on")
    flags += ("--ban", "cat", "--ban", "a red", "--no-repeat-word", "--no-repeat-ngram", 2)
    flags += ("--ban-ending", "on", "--ban-ending", "dog runs", "--min-length", 4)
    found = records(capsys, *photos, "--checkpoint", tiny_checkpoint, *flags)
    assert len(found) == len(photos)
    for caption in [one["caption"] for record in found for one in record["candidates"]]:
        words = caption.split()
        pairs = list(pairwise(words))
        assert ("red", "dog") in pairs
        assert "on" in words
        assert "cat" not in words
        assert ("a", "red") not in pairs
        assert all(one != other for one, other in pairs)
        assert len(set(pairs)) == len(pairs)
        assert words[-1] != "on"
        assert pairs[-1] != ("dog", "runs")
        assert 4 <= len(words) <= 6


def test_samples_depend_on_seed_and_photo_alone(
    tiny_checkpoint: Path, photos: list[Path], capsys: Capture
) -> None:
    common = ("--checkpoint", tiny_checkpoint, "--sample", 4, "--temperature", 1.3, "--top-k", 6)
    found = records(capsys, *photos, *common, "--batch-size", 1)
    assert all(len(record["candidates"]) == 4 for record in found)
    assert len({one["caption"] for record in found for one in record["candidates"]}) > 4
    backwards = records(capsys, *reversed(photos), *common, "--batch-size", 3)
    assert texts(reversed(backwards)) == texts(found)
    assert texts(records(capsys, *photos, *common, "--seed", 1)) != texts(found)


@pytest.mark.parametrize("by", ["score", "consensus"])
def test_reranked_samples(
    tiny_checkpoint: Path, photos: list[Path], by: str, capsys: Capture
) -> None:
    common = (photos[0], "--checkpoint", tiny_checkpoint, "--sample", 12)
    (drawn,) = records(capsys, *common)
    (ranked,) = records(capsys, *common, "--rerank", by, "--n-best", 3)
    captions = [one["caption"] for one in ranked["candidates"]]
    scores = [one["score"] for one in ranked["candidates"]]
    assert scores == sorted(scores, reverse=True)
    assert len(set(captions)) == 3
    assert set(captions) <= {one["caption"] for one in drawn["candidates"]}
    if by == "score":
        assert scores[0] == max(one["log_prob"] for one in drawn["candidates"])


def test_a_photo_without_a_caption_is_an_error_record(
    tiny_checkpoint: Path, photos: list[Path], capsys: Capture
) -> None:
    everything = [flag for word in WORDS[4:] for flag in ("--ban", word)]
    flags = ("--format", "jsonl", "--min-length", 1)
    assert run("caption", *photos, "--checkpoint", tiny_checkpoint, *everything, *flags) == 1
    captured = capsys.readouterr()
    found = [json.loads(line) for line in captured.out.splitlines()]
    assert [record["image"] for record in found] == [str(path) for path in photos]
    assert all("has no caption left" in record["error"] for record in found)
    assert "5 of 5 photos could not be captioned" in captured.err


@pytest.mark.parametrize("average", ["probability", "log_probability"])
def test_an_ensemble_averages_different_networks(
    tiny_checkpoint: Path, other_checkpoint: Path, photos: list[Path], average: str, capsys: Capture
) -> None:
    """The first word's probabilities are the average of the members'."""
    flags = ("--max-length", 1, "--n-best", 8, "--batch-size", 2)
    each = [
        records(capsys, *photos, "--checkpoint", path, *flags)
        for path in (tiny_checkpoint, other_checkpoint)
    ]
    both = ("--checkpoint", tiny_checkpoint, "--checkpoint", other_checkpoint)
    together = records(capsys, *photos, *both, *flags, "--ensemble", average)
    for one, other, ensemble in zip(*each, together, strict=True):
        first, second, found = (
            {found["caption"]: found["log_prob"] for found in record["candidates"]}
            for record in (one, other, ensemble)
        )
        assert len(found) == 8  # all the words that may be written, and the empty caption
        words = list(found)
        stacked = torch.tensor([[p[word] for word in words] for p in (first, second)]).double()
        if average == "probability":
            expected = stacked.exp().mean(dim=0).log()
        else:  # up to the constant that makes it a distribution
            expected = stacked.mean(dim=0)
            expected += found[words[0]] - float(expected[0])
        assert list(found.values()) == pytest.approx(expected.tolist(), abs=1e-4)


def test_an_ensemble_of_the_same_twice_is_that_one(
    tiny_checkpoint: Path, photos: list[Path]
) -> None:
    alone = Predictor.load(tiny_checkpoint, device="cpu")
    twice = Predictor.load([tiny_checkpoint, tiny_checkpoint], device="cpu")
    pairs = zip(alone.caption(photos), twice.caption(photos), strict=True)
    for one, other in pairs:
        assert one.caption == other.caption
        assert other.candidates[0].log_prob == pytest.approx(one.candidates[0].log_prob, abs=1e-4)


def test_members_with_one_encoder_encode_a_photo_once(
    tiny_checkpoint: Path, other_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = torch.load(tiny_checkpoint, weights_only=True)
    raw["state_dict"]["captioner.decoder.projection.bias"] += torch.arange(len(WORDS)) / 10
    torch.save(raw, tmp_path / "brother.ckpt")
    photo = make_photo(tmp_path / "photo.png", 0)
    paths = [tiny_checkpoint, tmp_path / "brother.ckpt", other_checkpoint]
    predictor = Predictor.load(paths, device="cpu")
    encoded = []
    for member in predictor.members:
        encoder = member.captioner.encoder
        encoder.register_forward_hook(lambda *_, path=member.path: encoded.append(path))
    assert next(predictor.caption([photo])).caption
    assert encoded == [tiny_checkpoint, other_checkpoint]


def test_an_ensemble_needs_one_vocabulary(
    tiny_checkpoint: Path, tmp_path: Path, photos: list[Path], capsys: Capture
) -> None:
    raw = torch.load(tiny_checkpoint, weights_only=True)
    raw["captioner"]["vocabulary"][-1] = "under"
    torch.save(raw, tmp_path / "other words.ckpt")
    both = ("--checkpoint", tiny_checkpoint, "--checkpoint", tmp_path / "other words.ckpt")
    assert run("caption", photos[0], *both) == 2
    line = capsys.readouterr().err
    assert f"{tmp_path / 'other words.ckpt'} has another vocabulary" in line
    assert line.count("\n") == 1


@pytest.fixture
def trained_checkpoint(tmp_path: Path) -> Path:
    """A checkpoint that knows its data set."""
    data = DataConfig(format="jsonl", root=str(write_jsonl(tmp_path / "set")))
    return save_checkpoint(tmp_path / "trained.ckpt", tiny_config(data=data))


def evaluated(tmp_path: Path, *flags: object) -> dict[str, Any]:
    output = tmp_path / "scores.json"
    assert run("evaluate", "--output", output, *flags) == 0
    content: dict[str, Any] = json.loads(output.read_text())
    return content


def test_the_recipe_names_what_changes_the_search(
    trained_checkpoint: Path, other_checkpoint: Path, tmp_path: Path
) -> None:
    plain = evaluated(tmp_path, "--checkpoint", trained_checkpoint)["recipe"]
    assert plain["beam_size"] == 2
    assert (plain["length_norm"], plain["max_length"]) == ("none", 6)
    assert plain["checkpoint"].startswith("trained.ckpt@")
    off = {"groups", "diversity", "length_alpha", "word_reward", "min_length", "sample", "ensemble"}
    off |= {"require", "ban", "ban_ending", "no_repeat_ngram", "no_repeat_word", "rerank", "seed"}
    assert not off & set(plain)

    flags = "--beam-size 4 --groups 2 --diversity 0.3 --length-norm gnmt --length-alpha 0.9"
    flags += " --word-reward 0.1 --min-length 2 --max-length 5 --require dog --ban cat --ban red"
    flags += " --ban-ending a --no-repeat-ngram 2 --no-repeat-word --ensemble log_probability"
    both = ("--checkpoint", trained_checkpoint, "--checkpoint", other_checkpoint)
    recipe = evaluated(tmp_path, *both, *flags.split())["recipe"]
    expected = {
        "beam_size": 4,
        "groups": 2,
        "diversity": 0.3,
        "length_norm": "gnmt",
        "length_alpha": 0.9,
        "word_reward": 0.1,
        "min_length": 2,
        "max_length": 5,
        "require": "dog",
        "ban": "cat, red",
        "ban_ending": "a",
        "no_repeat_ngram": 2,
        "no_repeat_word": "yes",
        "ensemble": "log_probability",
    }
    assert {name: recipe.get(name) for name in expected} == expected
    names = [part.split("@")[0] for part in recipe["checkpoint"].split(", ")]
    assert names == ["trained.ckpt", "other.ckpt"]


def test_evaluated_samples_are_those_of_the_image_id(
    trained_checkpoint: Path, tmp_path: Path
) -> None:
    flags = ("--sample", 3, "--top-p", 0.9, "--top-k", 5, "--seed", 7)
    flags += ("--rerank", "consensus", "--n-best", 2)
    results = []
    for batch_size in (1, 5):
        captions = tmp_path / "captions.json"
        more = ("--checkpoint", trained_checkpoint, "--captions", captions, "--split", "val")
        recipe = evaluated(tmp_path, *more, "--batch-size", batch_size, *flags)["recipe"]
        results.append(json.loads(captions.read_text()))
    assert results[0] == results[1]
    expected = {"sample": 3, "top_p": 0.9, "top_k": 5, "seed": 7, "rerank": "consensus"}
    assert {name: recipe.get(name) for name in expected} == expected
    assert "beam_size" not in recipe


def test_samples_too_are_as_the_checkpoint_says_where_no_flag_does() -> None:
    parser = Parser(prog="captioner")
    add_search_arguments(parser)
    lengths = {"max_length": 7, "min_length": 2, "length_norm": "gnmt", "length_alpha": 0.8}
    default = SearchOptions(beam_size=3, word_reward=0.4, **lengths)
    flags = ["--sample", "3", "--top-k", "5", "--max-length", "8"]
    chosen = chosen_search(parser.parse_args(flags), default)
    assert chosen == SampleOptions(3, top_k=5, word_reward=0.4, **(lengths | {"max_length": 8}))
    short = chosen_search(parser.parse_args(["--sample", "3", "--max-length", "1"]), default)
    assert (short.max_length, short.min_length) == (1, 1)
    found = chosen_search(parser.parse_args(["--n-best", "4"]), default)
    assert found == SearchOptions(beam_size=4, n_best=4, word_reward=0.4, **lengths)


def test_results_of_a_file_are_not_searched_for(tmp_path: Path, capsys: Capture) -> None:
    files = ("--results", tmp_path / "r.json", "--references", tmp_path / "a.json")
    assert run("evaluate", *files, "--beam-size", 3) == 2
    assert (
        "--beam-size needs --checkpoint; a file already holds its captions"
        in capsys.readouterr().err
    )


def test_the_same_from_python(tiny_checkpoint: Path, photos: list[Path]) -> None:
    trained = checkpoint.load(tiny_checkpoint)
    device = torch.device("cpu")
    wording = Wording(require=["red dog"], no_repeat_ngram=2)
    strategy = Strategy(SearchOptions(beam_size=4), wording=wording)
    predictor = Predictor(trained, device, strategy)
    assert all("red dog" in (found.caption or "") for found in predictor.caption(photos))
    with pytest.raises(UsageError, match="require: samples cannot be made to say a phrase"):
        Strategy(SampleOptions(samples=2), wording=wording)
    with pytest.raises(UsageError, match="ban: 'cat' is one text; give a list of phrases"):
        Wording(ban="cat")
    with pytest.raises(ValueError, match="shorter"):
        list(Predictor(trained, device).caption(photos, keys=[1, 2]))


def test_flags_overrule_the_checkpoint_about_repeated_words() -> None:
    parser = Parser(prog="captioner")
    add_search_arguments(parser)
    never, may = SearchOptions(no_repeat_word=True), SearchOptions()
    for flags, default, expected in [
        ([], never, True),
        ([], may, False),
        (["--repeat-word"], never, False),
        (["--no-repeat-word"], may, True),
        (["--repeat-word", "--sample", "2"], never, False),
    ]:
        assert chosen_search(parser.parse_args(flags), default).no_repeat_word == expected

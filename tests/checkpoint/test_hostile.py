"""Checkpoints from anybody: a wrong one is one line, runs no code and takes no memory."""

import json
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import make_photo, save_checkpoint, tiny_config
from test_file import changed

from captioner import checkpoint
from captioner.checkpoint.checks import MAX_STEPS
from captioner.checkpoint.encoder_description import rebuild
from captioner.cli import main
from captioner.config.schema import DecoderConfig
from captioner.errors import CaptionerError, UsageError
from captioner.inference.predictor import Predictor
from captioner.model.backbones.weights import read_state_dict
from captioner.model.network.network import Network


def step(raw: dict[str, Any], kind: str) -> dict[str, Any]:
    steps = raw["captioner"]["encoder"]["network"]
    found: dict[str, Any] = next(step for step in steps if step["kind"] == kind)
    return found


def decoder(**values: object) -> Any:
    return lambda raw: raw["captioner"]["config"]["decoder"].update(values)


def encoder(**values: object) -> Any:
    return lambda raw: raw["captioner"]["encoder"].update(values)


def first_weight(make: Any) -> Any:
    def change(raw: dict[str, Any]) -> None:
        name = next(iter(raw["state_dict"]))
        raw["state_dict"][name] = make(raw["state_dict"][name])

    return change


def nested(levels: int = 6) -> list[Any]:
    """One list a thousand times in another, and so on: kilobytes in a pickle, 10^18 values."""
    value: Any = [1] * 1000
    for _ in range(levels):
        value = [value] * 1000
    return value


def circle() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def trunk_weights(raw: dict[str, Any]) -> list[str]:
    return [name for name in raw["state_dict"] if ".encoder.trunk." in name]


def share_one_weight(raw: dict[str, Any]) -> None:
    """Layers of one size on one stored tensor."""
    like: dict[Any, str] = {}
    for name in trunk_weights(raw):
        tensor = raw["state_dict"][name]
        raw["state_dict"][name] = raw["state_dict"][like.setdefault(tensor.shape, name)]


def overlap_weights(raw: dict[str, Any]) -> None:
    """Layers on pieces of one tensor that lie over one another."""
    names = trunk_weights(raw)
    most = max(raw["state_dict"][name].numel() for name in names)
    stored = torch.zeros(most + len(names))
    for i, name in enumerate(names):
        tensor = raw["state_dict"][name]
        raw["state_dict"][name] = stored[i : i + tensor.numel()].view(tensor.shape)


def by_name(name: str, size: int = 64) -> Any:
    def change(raw: dict[str, Any]) -> None:
        raw["captioner"]["encoder"]["network"] = None
        raw["captioner"]["config"]["encoder"]["name"] = name
        raw["captioner"]["transform"]["size"] = size

    return change


def add_step(**values: object) -> Any:
    """Before the output, one step that its input goes through."""

    def change(raw: dict[str, Any]) -> None:
        steps = raw["captioner"]["encoder"]["network"]
        last = steps[-2]["name"]
        new = {"name": "evil", "kind": "call_function", "target": "relu", "kwargs": {}}
        new["args"] = {"tuple": [{"node": last}]}
        steps.insert(-1, new | values)
        steps[-1]["args"] = {"tuple": [{"node": "evil"}]}

    return change


CODE = '__import__("pathlib").Path("sprung").touch()'


@pytest.mark.parametrize(
    ("change", "message"),
    [
        # Code in what torch.fx writes into its source.
        (lambda raw: step(raw, "placeholder").update(target=f"x={CODE}"), "a valid name"),
        (lambda raw: step(raw, "call_module").update(target=f'a", {CODE}) or ("'), "a valid name"),
        (lambda raw: step(raw, "call_module").update(name=f"a = {CODE}; b"), "a valid name"),
        (lambda raw: step(raw, "call_module").update(kwargs={f"a={CODE}, b": 1}), "a valid name"),
        (lambda raw: step(raw, "call_module").update(name="lambda"), "used before it is computed"),
        (lambda raw: step(raw, "call_module").update(target=3), "not a valid name|rebuilt"),
        (add_step(target="eval"), "unknown operation 'eval'"),
        (add_step(kind="call_method", target="__reduce__"), "unknown operation '__reduce__'"),
        (lambda raw: step(raw, "call_module")["settings"].update(stride={"tuple": [1] * 4}),
         "damaged checkpoint"),
        # Memory.
        (decoder(hidden_size=2**40), "decoder.hidden_size must be a whole number of at most"),
        (decoder(hidden_size=2**20), "damaged checkpoint: .*size mismatch"),
        (decoder(layers=10**9), "decoder.layers must be"),
        (decoder(layers="3"), "damaged checkpoint"),
        (decoder(embedding_size=-1), "decoder.embedding_size"),
        (add_step(target="adaptive_avg_pool2d",
                  args={"tuple": [{"node": "features_0"}, 10**6]}), "1000000 is more than 64"),
        (add_step(target="mul", args={"tuple": [[1], 10**6]}), "takes a whole number, not a list"),
        (add_step(target="cat", args={"tuple": [[{"node": "features_0"}] * 30_000]}),
         "a list of up to 1,024 tensors"),
        (first_weight(lambda old: torch.zeros(1).expand(10**6, 10**6)), "bytes it stores"),
        (first_weight(lambda old: old.to_sparse()), "dense tensor|not a checkpoint"),
        (encoder(network=[{}] * (MAX_STEPS + 1)), "at most 10,000 steps"),
        (share_one_weight, "together no larger than the"),
        (overlap_weights, "together no larger than the"),
        (encoder(mean=nested()), "at most 500,000 values"),
        (lambda raw: raw["captioner"]["transform"].update(fit=nested()), "at most 500,000 values"),
        (lambda raw: raw["captioner"].update(config={"a": nested()}), "at most 500,000 values"),
        (lambda raw: step(raw, "call_module")["settings"].update(stride=nested()),
         "at most 500,000 values"),
        (lambda raw: raw["captioner"].update(wandb_run=circle()), "nested at most 16 levels"),
        (lambda raw: step(raw, "call_module")["kwargs"].update(a=2**300), "at most 256 bits"),
        (lambda raw: raw["captioner"].update(wandb_run=torch.zeros(2)), "not a Tensor"),
        (by_name("vit_h_14"), "must be the weights of vit_h_14, at least 316,735,"),
        (by_name("squeezenet1_1", 2048), "transform.size must be at most 1024"),
        # Names: of a layer, of an argument.
        (lambda raw: step(raw, "call_module").update(target="forward"), "must not be called"),
        (lambda raw: step(raw, "call_module").update(target="a.__init__"), "layer must not be"),
        (add_step(name="x"), "two steps are called 'x'"),
        (add_step(kwargs={"out": 1}), "unexpected keyword argument 'out'"),
        (add_step(target="dropout", kwargs={}), "drops at random"),
        # Kinds.
        (first_weight(lambda old: old.half()), "must be float32"),
        (first_weight(lambda old: 3), "must be a tensor"),
        (lambda raw: raw["state_dict"].update({3: torch.zeros(1)}), "tensors by name"),
        (lambda raw: raw["captioner"].update(vocabulary=[1, 2]), "vocabulary must be texts"),
        (lambda raw: raw["captioner"].update(vocabulary="abc"), "vocabulary must be a list"),
        (lambda raw: raw["captioner"].update(config=[]), "config must be a dict"),
        (lambda raw: raw["captioner"].update(format_version="1"), "no format_version"),
        (encoder(mean=[0.5, float("nan"), 0.5]), "encoder.mean must be three numbers"),
        (encoder(std=[0.5, 0.0, 0.5]), "encoder.std must be more than 0"),
        (encoder(feature_size=7), "not a network with 7 output channels"),
        (encoder(network=[]), "must be a list of steps"),
        (encoder(grid="yes"), "encoder.grid must be true or false"),
        (lambda raw: raw["captioner"]["transform"].update(size=10**9), "transform.size"),
        (lambda raw: raw["captioner"]["transform"].update(evil=1), "transform.evil"),
        (lambda raw: raw["captioner"]["config"]["search"].update(beam_size=10**9), "beam_size"),
        (lambda raw: raw["captioner"]["config"]["search"].update(
            word_reward=10**30, length_norm="gnmt"), "word_reward"),
        (lambda raw: raw["captioner"]["config"]["search"].update(
            length_alpha=10**30, length_norm="gnmt"), "length_alpha"),
    ],
)  # fmt: skip
def test_one_line_and_nothing_happens(
    tiny_checkpoint: Path,
    tmp_path: Path,
    change: Any,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    path = changed(tiny_checkpoint, tmp_path / "changed.ckpt", change)
    with pytest.raises(CaptionerError, match=message) as caught:
        checkpoint.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "sprung").exists()


def test_loading_does_not_import_the_compiler(tiny_checkpoint: Path) -> None:
    """It takes more than a second; filling a tensor without memory at random would import it."""
    code = (
        "import sys; from pathlib import Path; from captioner import checkpoint\n"
        "checkpoint.load(Path(sys.argv[1])); assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tiny_checkpoint)], check=True)


def test_the_description_is_read_within_a_tenth_of_a_second(tiny_checkpoint: Path) -> None:
    raw = torch.load(tiny_checkpoint, weights_only=True)
    steps = raw["captioner"]["encoder"]["network"]
    rebuild(steps, side=48, channels=512)
    began = time.process_time()
    rebuild(steps, side=48, channels=512)
    assert time.process_time() - began < 0.1


@pytest.mark.parametrize(
    ("count", "step"),
    [
        (9_000, {"target": "avg_pool2d", "args": {"tuple": [{"node": "LAST"}, 64, 1, 32]}}),
        (9_000, {"target": "cat", "args": {"tuple": [[{"node": "LAST"}] * 2, 1]}}),
        (9_000, {"target": "unsqueeze", "args": {"tuple": [{"node": "LAST"}, 1]}}),
        (9_000, {"target": "relu", "args": {"tuple": [{"node": "LAST"}]}}),
        (5_000, {"target": "add", "args": {"tuple": [{"node": "LAST"}, {"node": "x"}]}}),
    ],
)
def test_a_description_that_takes_too_much_is_refused_soon(count: int, step: Any) -> None:
    steps: list[dict[str, Any]] = [
        {"name": "x", "kind": "placeholder", "target": "x", "args": {"tuple": []}, "kwargs": {}}
    ]
    for i in range(count):
        new = json.loads(json.dumps(step).replace("LAST", steps[-1]["name"]))
        steps.append({"name": f"s{i}", "kind": "call_function", "kwargs": {}, **new})
    last = {"tuple": [{"node": steps[-1]["name"]}]}
    steps.append(
        {"name": "output", "kind": "output", "target": "output", "args": last, "kwargs": {}}
    )
    began = time.process_time()
    with pytest.raises(CaptionerError, match="encoder's description"):
        rebuild(steps, side=2048, channels=3)
    assert time.process_time() - began < 0.5


def test_a_large_batch_goes_through_in_parts(tiny_checkpoint: Path) -> None:
    """Memory is bounded whatever the batch, and the features are the same."""
    loaded = checkpoint.load(tiny_checkpoint).captioner.encoder
    photos = torch.randint(0, 256, (5, 3, 48, 48), dtype=torch.uint8)
    network = loaded.trunk
    assert isinstance(network, Network)
    with torch.inference_mode():
        whole = loaded(photos)
        network.at_once = 2
        assert torch.allclose(loaded(photos), whole, atol=1e-6)


# Exports


@pytest.fixture
def exported(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "exported"
    assert main(["export", "--checkpoint", str(tiny_checkpoint), "--output", str(folder)]) == 0
    return folder


def test_an_export_writes_the_same_captions(
    tiny_checkpoint: Path, exported: Path, tmp_path: Path
) -> None:
    assert {path.name for path in exported.iterdir()} == {"captioner.json", "weights.safetensors"}
    photos = [make_photo(tmp_path / f"{i}.png", i) for i in range(4)]
    one, two = (list(Predictor.load(p).caption(photos)) for p in (tiny_checkpoint, exported))
    assert one == two
    again = tmp_path / "again"
    checkpoint.export(exported, again)
    assert checkpoint.file_digest(again) == checkpoint.file_digest(exported)
    checkpoint.export(tiny_checkpoint, again)  # over an export, not over anything else


def test_an_export_of_tied_embeddings(tmp_path: Path) -> None:
    config = tiny_config(
        decoder=DecoderConfig(cell="gru", embedding_size=12, hidden_size=12, tie_embeddings=True)
    )
    path = save_checkpoint(tmp_path / "tied.ckpt", config)
    checkpoint.export(path, tmp_path / "tied")
    photo = make_photo(tmp_path / "a.png", 1)
    one, two = (list(Predictor.load(p).caption([photo])) for p in (path, tmp_path / "tied"))
    assert one == two


def test_exports_that_are_none(exported: Path, tmp_path: Path) -> None:
    weights, contents = exported / "weights.safetensors", exported / "captioner.json"
    for damage in (b"", b"{", b"[]", b"[" * 5000, b'{"format_version": 1}', b"\xff"):
        broken = shutil.copytree(exported, tmp_path / "broken", dirs_exist_ok=True)
        (broken / contents.name).write_bytes(damage)
        with pytest.raises(CaptionerError):
            checkpoint.load(broken)
    for damage in (b"", weights.read_bytes()[:-1], b"\xff" * 64, b"\x02" + bytes(7) + b"{}"):
        broken = shutil.copytree(exported, tmp_path / "broken", dirs_exist_ok=True)
        (broken / weights.name).write_bytes(damage)
        with pytest.raises(CaptionerError, match="damaged"):
            checkpoint.load(broken)
    values = json.loads(contents.read_text())
    values["encoder"]["network"][0]["target"] = f"x={CODE}"
    contents.write_text(json.dumps(values))
    with pytest.raises(CaptionerError, match="not a valid name"):
        checkpoint.load(exported)
    weights.unlink()
    with pytest.raises(UsageError, match=r"has no weights\.safetensors"):
        checkpoint.load(exported)


def test_a_killed_export_may_be_run_again(tiny_checkpoint: Path, exported: Path) -> None:
    names = {path.name for path in exported.iterdir()}
    for name in names:
        (exported / name).rename(exported / f"{name}.part")
    checkpoint.export(tiny_checkpoint, exported)
    assert {path.name for path in exported.iterdir()} == names


def test_where_an_export_may_go(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    for folder, message in (
        (tmp_path, "holds .*; name an empty folder"),
        (tmp_path / "mine.txt", "is a file; name a folder"),
        (tmp_path / "no" / "where", "no such folder"),
    ):
        with pytest.raises(UsageError, match=message):
            checkpoint.export(tiny_checkpoint, folder)


def test_a_long_name_is_not_searched(tmp_path: Path) -> None:
    """torch words its complaint about such a name in time that grows with the square of it."""
    good, evil = save_checkpoint(tmp_path / "a.ckpt", tiny_config()), tmp_path / "evil.ckpt"
    name = b"\x80\x02c" + b"x" * 2**20 + b"\ny\n."
    with zipfile.ZipFile(good) as old, zipfile.ZipFile(evil, "w") as new:
        for entry in old.namelist():
            new.writestr(entry, name if entry.endswith("data.pkl") else old.read(entry))
    with pytest.raises(UsageError, match=r"evil\.ckpt: .* damaged \(holds a text of 1,048,57\d "):
        checkpoint.load(evil)
    with pytest.raises(UsageError, match=r"evil\.ckpt is not a file of tensors"):
        read_state_dict(evil, [])


def test_weights_of_old_torch(tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    torch.save({"a": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    assert read_state_dict(path, [])["a"].tolist() == [1, 1]

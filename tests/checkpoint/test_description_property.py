"""Descriptions from anybody, drawn at random: a network or one clean error, and nothing else."""

import builtins
import copy
import functools
import importlib.util
import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from conftest import make_photo
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from captioner import checkpoint
from captioner.checkpoint.encoder_description import rebuild
from captioner.checkpoint.safetensors import CONTENTS
from captioner.errors import CaptionerError
from captioner.inference.predictor import Predictor
from captioner.model.network.operations import FUNCTIONS, LAYERS, METHODS

SCRIPT = Path(__file__).parents[2] / "scripts" / "audit_events.py"


def _audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit_events", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


AUDIT = _audit()

ATTRIBUTES = sorted(
    {*dir(nn.Module), *dir(torch.fx.GraphModule), *dir(Tensor), *dir(torch), *dir(builtins)}
)
CRAFTED = (
    *("f.__globals__.get", "__init__.__globals__", "a.b.c", "__getattribute__", "to_folder"),
    *("x=__import__('os').system('true')", "lambda: 0", "a\nb", "\x1b[2J", "", ".", "../x", "é"),
)
TARGETS = st.one_of(
    st.sampled_from(ATTRIBUTES),
    st.sampled_from(sorted({*FUNCTIONS, *METHODS})),
    st.sampled_from(CRAFTED),
    st.lists(st.sampled_from(ATTRIBUTES), min_size=2, max_size=3).map(".".join),
    st.text(max_size=8),
)
NODES = st.sampled_from(["x", "features_0", "features_1", "e0", "e1", "output", "self", "nobody"])
PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 70),
    st.sampled_from([2**20, 2**31, 10**30, -(10**30), 1e308, float("nan")]),
    TARGETS,
    st.builds(lambda name: {"node": name}, NODES),
)
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.builds(lambda items: {"tuple": items}, st.lists(inner, max_size=4)),
        st.builds(lambda items: {"slice": items}, st.lists(inner, max_size=4)),
        st.dictionaries(TARGETS, inner, max_size=2),
    ),
    max_leaves=6,
)
STEPS = st.fixed_dictionaries(
    {
        "name": st.one_of(st.sampled_from(["e0", "e1", "x", "self"]), TARGETS),
        "kind": st.one_of(
            st.sampled_from(["call_module", "call_module", "call_function", "call_method"]),
            st.sampled_from(["placeholder", "output", "get_attr", "root", 3, None]),
        ),
        "target": TARGETS,
        "args": st.one_of(
            st.builds(lambda name: {"tuple": [{"node": name}]}, NODES),
            st.builds(
                lambda name, rest: {"tuple": [{"node": name}, *rest]},
                NODES,
                st.lists(VALUES, max_size=3),
            ),
            VALUES,
        ),
        "kwargs": st.one_of(
            st.just({}), st.dictionaries(TARGETS, VALUES, max_size=2), st.integers()
        ),
    },
    optional={
        "layer": st.one_of(st.just("Identity"), st.sampled_from(sorted(LAYERS)), TARGETS),
        "settings": st.one_of(st.just({}), st.dictionaries(TARGETS, VALUES, max_size=3), VALUES),
    },
)
PLANS = st.lists(st.tuples(st.integers(0, 3), STEPS), min_size=1, max_size=4)


def planted(steps: list[Any], plan: list[tuple[int, Any]], damage: str) -> list[Any]:
    """A description with strange steps in it, and its values aliased or in a circle."""
    changed = copy.deepcopy(steps)
    for at, step in plan:
        changed.insert(at, step)
    if damage == "aliases":
        value: Any = [1] * 1000
        for _ in range(6):
            value = [value] * 1000
        changed[1]["args"] = {"tuple": value}
    elif damage == "circle":
        round_: list[Any] = [{"node": "x"}]
        round_.append(round_)
        changed[1]["args"] = {"tuple": round_}
    elif damage == "many":
        changed[1:1] = changed[1:2] * 20_000
    return changed


DAMAGES = st.sampled_from([""] * 8 + ["aliases", "circle", "many"])
SETTINGS: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
}


@functools.cache
def description(path: Path) -> list[Any]:
    steps: list[Any] = torch.load(path, weights_only=True)["captioner"]["encoder"]["network"]
    return steps


def check_rebuilding(steps: list[Any], plan: list[tuple[int, Any]], damage: str) -> None:
    changed = planted(steps, plan, damage)

    def build() -> None:
        try:
            rebuild(changed, side=48, channels=512)
        except CaptionerError as error:
            errors.append(str(error))

    errors: list[str] = []
    assert AUDIT.watched(build) == []
    assert all(len(error.splitlines()) == 1 and error.isprintable() for error in errors)


@settings(max_examples=150, **SETTINGS)
@given(plan=PLANS, damage=DAMAGES)
def test_a_strange_description_runs_nothing(
    tiny_checkpoint: Path, plan: list[tuple[int, Any]], damage: str
) -> None:
    check_rebuilding(description(tiny_checkpoint), plan, damage)


@pytest.mark.slow
@settings(max_examples=5000, **SETTINGS)
@given(plan=PLANS, damage=DAMAGES)
def test_many_strange_descriptions_run_nothing(
    tiny_checkpoint: Path, plan: list[tuple[int, Any]], damage: str
) -> None:
    check_rebuilding(description(tiny_checkpoint), plan, damage)


def check_captioning(
    good: Path, place: Path, plan: list[tuple[int, Any]], damage: str, exported: bool
) -> None:
    photo, path = place / "a.png", place / ("evil" if exported else "evil.ckpt")
    if not photo.exists():
        make_photo(photo, 1)
    raw = torch.load(good, weights_only=True)
    raw["captioner"]["encoder"]["network"] = planted(
        raw["captioner"]["encoder"]["network"], plan, damage
    )
    if exported:
        assume(damage not in ("aliases", "circle"))  # JSON has neither
        if not path.exists():
            checkpoint.export(good, path)
        (path / CONTENTS).write_text(json.dumps(raw["captioner"]))
    else:
        torch.save(raw, path)

    def caption() -> None:
        try:
            list(Predictor.load(path, device="cpu").caption([photo]))
        except CaptionerError as error:
            errors.append(str(error))

    errors: list[str] = []
    assert AUDIT.watched(caption) == []
    assert all(len(error.splitlines()) == 1 and str(path) in error for error in errors)


@settings(max_examples=25, **SETTINGS)
@given(plan=PLANS, damage=DAMAGES, exported=st.booleans())
def test_a_strange_checkpoint_runs_nothing(
    tiny_checkpoint: Path, tmp_path: Path, plan: Any, damage: str, exported: bool
) -> None:
    check_captioning(tiny_checkpoint, tmp_path, plan, damage, exported)


@pytest.mark.slow
@settings(max_examples=500, **SETTINGS)
@given(plan=PLANS, damage=DAMAGES, exported=st.booleans())
def test_many_strange_checkpoints_run_nothing(
    tiny_checkpoint: Path, tmp_path: Path, plan: Any, damage: str, exported: bool
) -> None:
    check_captioning(tiny_checkpoint, tmp_path, plan, damage, exported)


def test_the_hook_sees_code_processes_and_writing(tmp_path: Path) -> None:
    """What is looked for would be found."""
    target = tmp_path / "written"
    for call, event in (
        (lambda: exec("1 + 1"), "exec"),
        (lambda: compile("1", "x", "eval"), "compile"),
        (lambda: target.write_text("x"), "open"),
        (lambda: target.touch(), "os.utime"),
        (lambda: shutil.copy(target, tmp_path / "two"), "shutil"),
        (lambda: (tmp_path / "two").chmod(0o600), "os.chmod"),
    ):
        assert any(seen.startswith(event) for seen in AUDIT.watched(call)), event
    assert AUDIT.watched(lambda: target.read_text()) == []
    assert AUDIT.watched(lambda: target.write_text("y"), folder=tmp_path) == []
    assert AUDIT.watched(lambda: (tmp_path.parent / "z").touch(), folder=tmp_path) != []

"""The import paths of version 0.1 lead to the modules of today, with a warning."""

import importlib
import subprocess
import sys

import pytest

from captioner.moved import MOVED


@pytest.mark.parametrize(("old", "new"), [(old, new) for old, new in MOVED.items() if new])
def test_an_old_path_is_the_new_module(old: str, new: str) -> None:
    for name in [name for name in sys.modules if name in MOVED]:
        del sys.modules[name]
    with pytest.warns(DeprecationWarning, match=f"{old} is now {new}; version 0.3 removes"):
        assert importlib.import_module(old) is importlib.import_module(new)


def test_names_are_imported_from_an_old_path_in_a_fresh_process() -> None:
    code = "from captioner.data.photo import read_photo; from captioner.predictor import Predictor"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_path_that_never_was_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"captioner\.nowhere"):
        importlib.import_module("captioner.nowhere")


def test_the_package_offers_the_predictor_and_imports_torch_only_for_it() -> None:
    code = (
        "import sys, captioner; assert 'torch' not in sys.modules; "
        "from captioner import Predictor; assert 'torch' in sys.modules; "
        "assert not hasattr(captioner, 'nothing')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

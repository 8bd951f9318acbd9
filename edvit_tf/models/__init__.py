"""The models: `vit.py` builds the base ViT and every sub-model from a ViTConfig; `layers.py` holds its own layers."""

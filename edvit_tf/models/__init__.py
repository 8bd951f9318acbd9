"""The models. Read `presets.py` (named widths, without TensorFlow), `layers.py` (what Keras has no
stock layer for), `vit.py` (the base ViT and every sub-model from a ViTConfig), `pretrained.py` (a
base to start from, and what it is made of)."""

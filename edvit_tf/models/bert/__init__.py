"""BERT (Devlin et al. 2019), and what is of its form, such as MiniLM: all that knows how one of its
blocks is wired.

The names of `edvit_tf.models.PROTOCOL` come from here when they are asked for (PEP 562). Layers are
named as a ViT's, so the cuts of attention and FFN are those of `models/vit/cuts.py`; the residual
stream is another matter, since each LayerNorm stands on it (post-LN):

    x = LN(tokens + positions + type);  x = LN(x + attention(x));  x = LN(x + mlp(x))

Read config, presets, cost; then keras_model (the reference; layers.py beside it), functions (the
same as plain functions, with masks), deployed (the same on a device); then cuts and repair; then
pretrained (checkpoints of the Hugging Face layout).
"""

from edvit_tf.models.first_use import from_modules

# name of the protocol -> (module, its name there)
_NAMES = {
    "Config": ("config", "BertConfig"),
    "PRESETS": ("presets", "PRESETS"),
    "preset": ("presets", "bert_config"),
    "TITLE": ("config", "TITLE"),
    "SHARE_NAME": ("config", "SHARE_NAME"),
    "COLUMNS": ("config", "COLUMNS"),
    "CUTS": ("config", "CUTS"),
    "widths_after": ("config", "widths_after"),
    "is_cut": ("config", "is_cut"),
    "params": ("cost", "params"),
    "macs": ("cost", "macs"),
    "macs_full": ("cost", "macs_full"),
    "training_macs": ("cost", "training_macs"),
    "size_bytes": ("cost", "size_bytes"),
    "file_bytes": ("cost", "file_bytes"),
    "build": ("keras_model", "build_bert"),
    "kept_patches": ("config", "kept_patches"),
    "stacked_features": ("functions", "stacked_features"),
    "config_of": ("keras_model", "config_of"),
    "load_base": ("pretrained", "load_base"),
    "READS_FILES": ("config", "READS_FILES"),
    "mask_shapes": ("functions", "mask_shapes"),
    "forward": ("functions", "forward"),
    "magnitude": ("cuts", "magnitude"),
    "SHORTCUTS": ("config", "SHORTCUTS"),
    "group_head": ("cuts", "group_head"),
    "unit_groups": ("cuts", "unit_groups"),
    "cut_stage": ("cuts", "cut_stage"),
    "repair_stage": ("repair", "repair_stage"),
    "graph": ("deployed", "graph"),
}

__all__ = list(_NAMES)
__getattr__ = from_modules(__name__, _NAMES)

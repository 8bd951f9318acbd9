"""VGG (Simonyan and Zisserman 2015) with batch normalisation, as NNFacet and EC-SNN cut it class by
class: Split-CNN.

The names of `edvit_tf.models.PROTOCOL` come from here when they are asked for (PEP 562), so that
planning and the command line load no TensorFlow. Read in this order:

    config          the widths of one VGG, and what a cut leaves of them
    presets         those that have a name
    cost            parameters, MACs and bytes
    keras_model     the reference: one flat Keras model
    functions       the same as plain functions, with a mask on every filter; the share of zeros
    heads           Dense layers without activation are one matrix: it, and back
    cuts            filters go, by rank or by the threshold as published
    zeta            widths from that threshold, and the threshold from a device's bytes
    deployed        the same as a device computes it, batch normalisation folded away
    bases           a .keras file of an earlier run

What ties them: tests/models/test_vgg.py.
"""

from edvit_tf.models.first_use import from_modules

# name of the protocol -> (module, its name there)
_NAMES = {
    "Config": ("config", "VGGConfig"),
    "PRESETS": ("presets", "PRESETS"),
    "preset": ("presets", "vgg_config"),
    "TITLE": ("config", "TITLE"),
    "SHARE_NAME": ("config", "SHARE_NAME"),
    "UNSHOWN": ("config", "UNSHOWN"),
    "COLUMNS": ("config", "COLUMNS"),
    "CUTS": ("config", "CUTS"),
    "widths_after": ("config", "widths_after"),
    "is_cut": ("config", "is_cut"),
    "params": ("cost", "params"),
    "macs": ("cost", "macs"),
    "macs_full": ("cost", "macs"),
    "training_macs": ("cost", "training_macs"),
    "size_bytes": ("cost", "size_bytes"),
    "file_bytes": ("cost", "file_bytes"),
    "build": ("keras_model", "build_vgg"),
    "kept_patches": ("config", "kept_patches"),
    "stacked_features": ("functions", "stacked_features"),
    "config_of": ("keras_model", "config_of"),
    "load_base": ("bases", "load_base"),
    "mask_shapes": ("functions", "mask_shapes"),
    "forward": ("functions", "forward"),
    "magnitude": ("cuts", "magnitude"),
    "activity": ("functions", "activity"),
    "SHORTCUTS": ("config", "SHORTCUTS"),
    "group_head": ("heads", "group_head"),
    "fit_form": ("heads", "fit_form"),
    "unit_groups": ("cuts", "unit_groups"),
    "cut_stage": ("cuts", "cut_stage"),
    "repair_stage": ("cuts", "repair_stage"),
    "by_threshold": ("zeta", "by_threshold"),
    "graph": ("deployed", "graph"),
}

__all__ = list(_NAMES)
__getattr__ = from_modules(__name__, _NAMES)

"""A spiking VGG, as EC-SNN cuts it class by class: Split-SNN.

A VGG without biases (but the head's), with average pools, and with leaky integrate-and-fire neurons
(LIF) in the place of ReLU, which run T steps over the same picture. What a VGG and it have in
common comes from `vgg/`: costs, heads, cuts, thresholds. Read in this order:

    config          a VGG's, and T
    neurons         one LIF neuron, its surrogate gradient, and the layers of Keras
    keras_model     the reference: T stands on the batch axis
    functions       the same as plain functions, with a mask on every filter; the share of spikes
    deployed        the same as a device computes it; spikes an inference, and how many flip

What ties them: tests/models/test_snn.py. The reference is spikingjelly 0.0.0.0.14, layer by layer.
"""

from edvit_tf.models.first_use import from_modules

# name of the protocol -> (module beside this one or in vgg/, its name there)
_NAMES = {
    "Config": ("snn.config", "SNNConfig"),
    "PRESETS": ("snn.config", "PRESETS"),
    "preset": ("snn.config", "snn_config"),
    "TITLE": ("snn.config", "TITLE"),
    "SHARE_NAME": ("vgg.config", "SHARE_NAME"),
    "UNSHOWN": ("vgg.config", "UNSHOWN"),
    "COLUMNS": ("snn.config", "COLUMNS"),
    "CUTS": ("vgg.config", "CUTS"),
    "widths_after": ("vgg.config", "widths_after"),
    "is_cut": ("vgg.config", "is_cut"),
    "params": ("vgg.cost", "params"),
    "macs": ("vgg.cost", "macs"),
    "macs_full": ("vgg.cost", "macs"),
    "training_macs": ("vgg.cost", "training_macs"),
    "size_bytes": ("vgg.cost", "size_bytes"),
    "file_bytes": ("vgg.cost", "file_bytes"),
    "build": ("snn.keras_model", "build_snn"),
    "kept_patches": ("vgg.config", "kept_patches"),
    "stacked_features": ("snn.functions", "stacked_features"),
    "config_of": ("snn.keras_model", "config_of"),
    "load_base": ("snn.keras_model", "load_base"),
    "mask_shapes": ("vgg.functions", "mask_shapes"),
    "forward": ("snn.functions", "forward"),
    "magnitude": ("vgg.cuts", "magnitude"),
    "activity": ("snn.functions", "activity"),
    "SHORTCUTS": ("vgg.config", "SHORTCUTS"),
    "group_head": ("vgg.heads", "group_head"),
    "fit_form": ("vgg.heads", "fit_form"),
    "unit_groups": ("vgg.cuts", "unit_groups"),
    "cut_stage": ("vgg.cuts", "cut_stage"),
    "repair_stage": ("vgg.cuts", "repair_stage"),
    "by_threshold": ("vgg.zeta", "by_threshold"),
    "JUMPS": ("snn.config", "JUMPS"),
    "BACKENDS": ("snn.config", "BACKENDS"),
    "spike_graph": ("snn.deployed", "spike_graph"),
    "spike_maps": ("snn.deployed", "spike_maps"),
    "graph": ("snn.deployed", "graph"),
}

__all__ = list(_NAMES)
__getattr__ = from_modules(__name__, _NAMES, within="edvit_tf.models")

"""The Vision Transformer: all that knows how one of its blocks is wired.

The names of `edvit_tf.models.PROTOCOL` come from here when they are asked for (PEP 562), so that
planning and the command line load no TensorFlow.

Read in this order. First the model, without TensorFlow:

    config          the widths of one ViT
    presets         those that have a name
    cost            parameters, MACs and bytes of a Config
    operator_work   the work of its operators, for an estimate of milliseconds

then one block's arithmetic, which stands in five places, each for a reason of its own:

    keras_model     the reference: one flat Keras model; layers.py, fused.py beside it
    functions       the same as plain functions, with a mask on every unit, for scores and repairs
    leave_one_out   the same with one unit removed, at the cost of what changes
    stacked         the same over N models at once, for joint training
    deployed        the same as a device computes it; fold.py and gelu.py beside it

What ties them: tests/pruning/test_importance.py (functions = keras_model, leave_one_out =
masked functions), tests/training/test_joint.py (stacked = keras_model),
tests/models/test_deployed.py (deployed = keras_model), tests/models/test_fused.py (fused layers
= Keras's). Then what is done to it:

    magnitudes      the score that reads weights alone
    cuts            the three cuts; rotation.py: directions of the residual stream
    repair          least squares after a cut; queries.py: of the query/key pairs
    prune           one cut and its repair, as a run asks for them

and where weights come from: checkpoints, huggingface, kerashub, resample, pretrained; clustering
puts them on a few values a matrix.
"""

from edvit_tf.models.first_use import from_modules

# name of the protocol -> (module, its name there)
_NAMES = {
    "Config": ("config", "ViTConfig"),
    "PRESETS": ("presets", "PRESETS"),
    "preset": ("presets", "vit_config"),
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
    "build": ("keras_model", "build_vit"),
    "kept_patches": ("config", "kept_patches"),
    "stacked_features": ("stacked", "features"),
    "config_of": ("keras_model", "config_of"),
    "load_base": ("pretrained", "load_base"),
    "mask_shapes": ("functions", "mask_shapes"),
    "forward": ("functions", "forward"),
    "magnitude": ("magnitudes", "magnitude"),
    "SHORTCUTS": ("leave_one_out", "SHORTCUTS"),
    "removals": ("leave_one_out", "removals"),
    "group_head": ("cuts", "group_head"),
    "unit_groups": ("cuts", "unit_groups"),
    "cut_stage": ("prune", "cut_stage"),
    "repair_stage": ("prune", "repair_stage"),
    "graph": ("deployed", "graph"),
    "latency_terms": ("operator_work", "latency_terms"),
}

__all__ = list(_NAMES)
__getattr__ = from_modules(__name__, _NAMES)

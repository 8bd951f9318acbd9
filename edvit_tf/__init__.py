"""edvit_tf: Vision Transformers split by classes over groups of small devices (ED-ViT, Liu et al.
2024).

Read the package in the order in which the data flows. On the host:

    errors      what a user can mend, each error with the exit code of its command
    checked     dataclasses that check their own types, and their JSON form
    config      what a run, its plan, its training and its pruning are asked for
    progress    what a run tells of itself, and who shows or keeps it
    cluster     work that is done by other processes, or by the nodes of a Ray cluster
    data        recordings and pictures -> model inputs, by split
    models      what an architecture brings; vit/ has everything about a Vision Transformer
    choosing    settings of a run from somebody's own data
    planning    classes -> groups; widths of each sub-model; sub-model -> device
    pruning     what the units of a model are worth, and what goes
    training    fit, distil, fuse
    export      .tflite files, parity, the bundle
    evaluation  accuracy of a bundle, each sub-model in a process of its own
    report      results.json, text tables and one HTML page
    pipeline    the whole run, stage by stage, resumable

On and around the devices:

    device      what a Raspberry Pi runs: standard library, numpy, one TFLite runtime, grpc; it
                imports nothing from the rest
    aggregate   the aggregator of a fleet, and its client; no TensorFlow
    watch       cameras, microphones and folders that ask a fleet without end, and who is told
    operate     certificates of a fleet, and bundles to its devices over ssh
    hub         pretrained bases from the Hugging Face hub, and bundles to and from it

Beside them:

    bench       benchmarks of this machine
    study       tables of the method on a trained base
    reproduce   the paper's numbers, and what comes out here
    cli         `edvit ...`, and the command line of every recipe

Nothing heavy is imported here: names come when they are asked for.
"""

import importlib
import os
import sys

# Keras asks for its backend when it is first imported, by this name, before its own settings.
# Where it is there already, with another one, whatever needs TensorFlow says so.
if "keras" not in sys.modules:
    os.environ["KERAS_BACKEND"] = "tensorflow"

__version__ = "0.3.0"

_NAMES = {
    "ViTConfig": "edvit_tf.models.vit.config",
    "DeviceSpec": "edvit_tf.config",
    "Plan": "edvit_tf.planning.plan",
    "RunConfig": "edvit_tf.config",
    "TrainConfig": "edvit_tf.config",
    "PruneConfig": "edvit_tf.config",
    "DataConfig": "edvit_tf.config",
    "build_vit": "edvit_tf.models.vit.keras_model",
    "load_pretrained": "edvit_tf.models.vit.pretrained",
    "vit_config": "edvit_tf.models.vit.presets",
    "load": "edvit_tf.data",
    "run": "edvit_tf.pipeline.run",
    "train": "edvit_tf.pipeline.trained",
    "Bundle": "edvit_tf.pipeline.trained",
    "evaluate": "edvit_tf.evaluation.evaluate",
}

__all__ = ["__version__", *_NAMES]


def __getattr__(name: str):
    """Imports a public name when it is first used (PEP 562)."""
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)

    raise AttributeError(
        f"module 'edvit_tf' has no attribute {name!r}; it has: {', '.join(__all__)}"
    )

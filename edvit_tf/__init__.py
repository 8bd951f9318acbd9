"""edvit_tf: Vision Transformers split by classes over groups of small devices (ED-ViT, Liu et al.
2024).

Read the package in the order in which the data flows:

    checked     dataclasses that check their own types, and their JSON form
    config      frozen dataclasses that cross rooms
    data        recordings and pictures -> model inputs, by split
    models      the base ViT and every sub-model: one flat, named Keras model
    planning    classes -> groups; heads per sub-model; sub-model -> device
    pruning     KL scores of units, the three cuts, and their repair
    training    fit, distil, fuse
    export      .tflite files, parity, the bundle
    evaluate    accuracy of a bundle, each sub-model in a process of its own
    report      tables and one HTML page
    bench       benchmarks of this machine
    study       tables of the method on a trained base
    pipeline    the whole run, stage by stage, resumable
    cli         `edvit ...`; its bench, study and sweep, certs, and serve, predict, push are in modules beside it
    device      what runs on a Raspberry Pi: standard library, numpy, one TFLite runtime, grpc
    aggregate   the aggregator of a fleet, and its client; no TensorFlow
    certs       keys and role certificates of a fleet
    push        a bundle to a device, over ssh

Nothing heavy is imported here: names come when they are asked for.
"""

import importlib

__version__ = "0.3.0.dev1"

_NAMES = {
    "ViTConfig": "edvit_tf.config",
    "DeviceSpec": "edvit_tf.config",
    "Plan": "edvit_tf.config",
    "RunConfig": "edvit_tf.config",
    "TrainConfig": "edvit_tf.config",
    "PruneConfig": "edvit_tf.config",
    "DataConfig": "edvit_tf.config",
    "build_vit": "edvit_tf.models.vit.keras_model",
    "load_pretrained": "edvit_tf.models.vit.pretrained",
    "vit_config": "edvit_tf.models.vit.presets",
    "load": "edvit_tf.data",
    "run": "edvit_tf.pipeline.run",
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

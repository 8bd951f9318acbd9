"""A small bundle with made-up weights, written by the real exporter in seconds: sub-models and a
fusion.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edvit_tf.config import DataConfig, DeviceSpec, RunConfig, TrainConfig
from edvit_tf.device.model.image import ImageSpec
from edvit_tf.device.model.input_spec import Files, InputSpec
from edvit_tf.device.model.sound import MelSpec
from edvit_tf.device.model.view import view_from_dict
from edvit_tf.models.vit import cost
from edvit_tf.models.vit.config import ViTConfig
from edvit_tf.planning.plan import Plan, SubModelPlan

ANIMALS = ("ant", "bee", "cat", "dog", "eel", "fly", "gnu", "hen", "ibis", "jay")  # two a sub-model
LABELS = ANIMALS[:4]  # of two sub-models
CONFIG = ViTConfig(
    (16, 16, 1),
    patch_size=8,
    num_layers=2,
    hidden_dim=24,
    num_heads=2,
    head_dim=12,
    mlp_dim=48,
    num_classes=3,
)
MEL = MelSpec(
    sample_rate_hz=8000,
    window_samples=4000,
    n_fft=256,
    hop_length=128,
    n_mels=16,
    frames=31,
    fmin_hz=0.0,
    fmax_hz=4000.0,
    height=16,
    width=16,
)


def write(
    folder: Path,
    config: ViTConfig = CONFIG,
    mel: bool | MelSpec = False,
    count: int = 2,
    spec: InputSpec | None = None,
    files: Files | None = None,
    views: Sequence[dict] | None = None,
    **run,
) -> Path:
    """Writes a bundle of `count` sub-models into `folder`, which is made.

    With `views` it is a fleet of copies: one model of all classes, a sub-model for each of these
    views, as the manifest has them, and each on two devices, pi-0 to pi-3 for two views.

    It is of pictures, or of sound as `mel` says (True: as MEL does), or of the input `spec` with
    its `files`. `run` are further fields of its RunConfig, such as flavours.
    """
    from edvit_tf.export.bundle import BundleParts, write_bundle
    from edvit_tf.export.fusion import fusion_of
    from edvit_tf.models.vit.keras_model import build_vit
    from edvit_tf.models.weights import get_weights

    if spec is None:
        spec = MEL if mel is True else mel or ImageSpec(*config.image_shape)
    if views is not None:
        count = len(views)
    labels = ANIMALS[: 2 * count]
    every = tuple(range(len(labels)))
    if views is not None:
        config = replace(config, num_classes=len(labels))
    size, macs = cost.size_bytes(config), cost.macs(config)
    subs = tuple(
        SubModelPlan(
            j,
            (2 * j, 2 * j + 1) if views is None else every,
            2,
            config,
            size,
            macs,
            (f"pi-{j}",) if views is None else (f"pi-{j}", f"pi-{j + count}"),
        )
        for j in range(count)
    )
    names = sorted(name for sub in subs for name in sub.devices)
    devices = tuple(DeviceSpec(name=name) for name in names)
    model = build_vit(config)
    rng = np.random.default_rng(0)

    def drawn(of):
        return {
            name: rng.normal(0, 0.1, w.shape).astype(np.float32)
            for name, w in get_weights(of).items()
        }

    if isinstance(spec, MelSpec):
        bank = rng.uniform(0, 1, (spec.n_mels, 1 + spec.n_fft // 2))
        files = {"mel_filters.npy": bank.astype(np.float32)}
    weights = [drawn(model) for _ in range(count)]
    if views is not None:
        weights = weights[:1] * count

    fit = TrainConfig(epochs=1)
    run_config = RunConfig(
        "demo",
        DataConfig("mnist", config.image_shape[:2]),
        "vit_smoke",
        fit,
        fit,
        fit,
        num_devices=len(devices),
        **run,
    )
    plan = Plan(subs, devices, None, "random", "greedy")
    kind = fusion_of(run_config, plan, len(labels))
    fusion = drawn(kind.build()) if kind.is_fitted else kind.weights_from(weights)
    folder.mkdir()
    write_bundle(
        folder,
        BundleParts(
            run=run_config,
            plan=plan,
            labels=labels,
            input_spec=spec,
            input_files=files or {},
            data={"name": "mnist", "source": "made up", "synthetic": True},
            splits={},
            sub_models=tuple(weights),
            views=tuple(map(view_from_dict, views or ())),
            fusion=fusion,
        ),
    )
    return folder

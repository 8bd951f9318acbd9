"""Split-CNN and Split-SNN from pictures to a bundle, as small as they can be: two sub-models of the
made-up digits.
"""

from pathlib import Path

from edvit_tf.config import DataConfig, PruneConfig, RunConfig, TrainConfig

FIT = TrainConfig(epochs=1, batch_size=16, learning_rate=1e-3, distillation=0.0, epoch="fixed")
CNN = RunConfig(
    name="cnn",
    data=DataConfig("mnist", (28, 28), {"synthetic_per_class": 12}, stand_in=True),
    model="vgg_smoke",
    base_training=FIT,
    stage_training=FIT,
    fusion_training=FIT,
    pruning=PruneConfig(score="apoz", repair=False),
    fusion="deep_linear",
    missing_rate=0.0,
    num_devices=2,
    calibration_samples=16,
)
SNN = CNN.replace(name="snn", model="snn_smoke", baselines=())


def write(out: Path, config: RunConfig = CNN) -> dict:
    """Runs `config`; the bundle comes to lie at `out`. Returns its results."""
    from edvit_tf.data import load
    from edvit_tf.pipeline.run import run

    dataset = load("mnist", image_size=(28, 28), synthetic="only", synthetic_per_class=12)
    return run(config, dataset, out)

"""CIFAR-10, a spiking VGG-9 split over ten devices class by class: Split-SNN, as EC-SNN has it and
the paper compares with. Filters go by their share of steps without a spike; files of 2.45 MiB.

Command:    python recipes/cifar10_snn.py --data-dir DIR
            --model and zeta are fields of CONFIG: EC-SNN also has VGG-16 (--profile paper)
Fleet:      a class a device; a device sends the mean of its spikes over five steps, once, and one
            matrix reads all of them. In TFLite an SNN is slower than its CNN: it computes each step
Time:       not measured yet; --smoke takes 26 s of processor time on an AMD EPYC
Accuracy:   not measured yet
Data:       to hand: the JPEG sample, 44,550 training, 4,950 validation, 9,000 test images
The paper:  its Table 2 shows Split-SNN below Split-CNN on CIFAR-10 at N = 10; its values are a
            picture. EC-SNN: 85.25, 85.28, 85.11, 84.89 % of VGG-9 at 3, 5, 7, 9 devices, of all
            50,000 exact pictures: not comparable. Other than there: filters by rank, normalisation
            copied (`their_way` is the letter), the last epoch and not the best on the test split
"""

from edvit_tf.cli.recipe import main, smoke_profile
from edvit_tf.config import DataConfig, DeviceSpec, PruneConfig, RunConfig, TrainConfig

FIT = TrainConfig(
    epochs=20,
    batch_size=128,
    learning_rate=1e-4,
    weight_decay=0.0,
    warmup_fraction=0.0,
    distillation=0.0,
    augment="shift_flip",
    epoch="fixed",
)
CONFIG = RunConfig(
    name="cifar10-snn",
    data=DataConfig("cifar10", image_size=(32, 32)),
    model="snn9",
    base_training=FIT.replace(epochs=70),
    stage_training=FIT,
    fusion_training=FIT.replace(epochs=15, augment="none"),
    pruning=PruneConfig(score="apoz", repair=False),
    fusion="deep_linear",
    missing_rate=0.0,
    calibration_samples=2048,
    num_devices=10,
    devices=tuple(DeviceSpec(f"pi-{i}", memory_bytes=2_569_011) for i in range(10)),
    start_heads=100,
)
SMOKE = smoke_profile(
    DataConfig(
        "cifar10", image_size=(32, 32), options={"max_per_class": 8, "validation_count": 1000}
    ),
    model="snn_smoke",
    devices=None,
    base_training=FIT.replace(epochs=2, batch_size=16, learning_rate=1e-3),
    stage_training=FIT.replace(epochs=1, batch_size=16, learning_rate=1e-3),
)
PAPER = {"model": "snn16", "devices": None, "start_heads": None}

if __name__ == "__main__":
    raise SystemExit(main(__doc__, CONFIG, smoke=SMOKE, paper=PAPER))

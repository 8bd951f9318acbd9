"""CIFAR-10, a spiking VGG split over ten devices class by class: Split-SNN, as EC-SNN has it and
the paper compares with. Filters go by their share of steps without a spike; files of 2.45 MiB.

Command:    python recipes/cifar10_snn.py --data-dir DIR
Fleet:      a class a device; a device sends the mean of its spikes over five steps, once, and one
            matrix reads all of them. In TFLite an SNN is slower than its CNN: it computes each step
Time:       about 35 minutes of one core (AMD EPYC), by the seconds of single steps; --smoke takes
            26 s of processor time
Base:       a spiking VGG-16 of half the width, four epochs of 7,000 pictures: a step takes five
            times that of the CNN. --profile paper has the whole net, all pictures and 70 epochs
Accuracy:   test split, seed 0: fused 35.5 %, average 29.6, one model of a device's size 40.5, base
            37.7, a linear classifier 40.8: so few pictures do not carry ten members of a class each
Data:       to hand: of the JPEG sample 7,000 training, 990 validation, 7,000 test images
The paper:  its Table 2 shows Split-SNN below Split-CNN on CIFAR-10 at N = 10; its values are a
            picture. EC-SNN: 85.25, 85.28, 85.11, 84.89 % of VGG-9 at 3, 5, 7, 9 devices, of all
            50,000 exact pictures: not comparable. Other than there: filters by rank, normalisation
            copied (`their_way` is the letter), the last epoch and not the best on the test split
"""

from edvit_tf.cli.recipe import main, smoke_profile
from edvit_tf.config import DataConfig, PruneConfig, RunConfig, TrainConfig

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
    data=DataConfig(
        "cifar10", image_size=(32, 32), options={"validation_count": 1000, "max_per_class": 700}
    ),
    model="snn16_half",
    base_training=FIT.replace(batch_size=64, learning_rate=5e-4, epochs=4, warmup_fraction=0.05),
    stage_training=FIT.replace(epochs=3, batch_size=64, learning_rate=5e-4),
    fusion_training=FIT.replace(batch_size=64, epochs=6, augment="none"),
    pruning=PruneConfig(score="apoz", repair=False),
    fusion="deep_linear",
    missing_rate=0.0,
    calibration_samples=512,
    num_devices=10,
    budget_bytes=25_690_112,  # 10 x 2.45 MiB
    start_heads=100,
)
SMOKE = smoke_profile(
    DataConfig(
        "cifar10", image_size=(32, 32), options={"max_per_class": 8, "validation_count": 1000}
    ),
    model="snn_smoke",
    budget_bytes=None,
    base_training=FIT.replace(epochs=2, batch_size=16, learning_rate=1e-3),
    stage_training=FIT.replace(epochs=1, batch_size=16, learning_rate=1e-3),
)
PAPER = {
    "data": DataConfig("cifar10", image_size=(32, 32)),
    "model": "snn16",
    "base_training": FIT.replace(epochs=70),
    "stage_training": FIT,
    "fusion_training": FIT.replace(epochs=15, augment="none"),
    "budget_bytes": None,
    "start_heads": None,
}

if __name__ == "__main__":
    raise SystemExit(main(__doc__, CONFIG, smoke=SMOKE, paper=PAPER))

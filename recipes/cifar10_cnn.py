"""CIFAR-10, a VGG-9 split over ten devices class by class: Split-CNN, as NNFacet has it and the
paper compares with. Filters go by their share of zeros (APoZ), by rank; files of 2.45 MiB a device.

Command:    python recipes/cifar10_cnn.py --data-dir DIR
            --model and zeta are fields of CONFIG: the published net is VGG-16 (--profile paper)
Fleet:      a class a device; a device sends the flattened maps, and one matrix reads all of them
Time:       not measured yet; --smoke takes 20 s of processor time on an AMD EPYC
Accuracy:   not measured yet
Data:       to hand: the JPEG sample, 44,550 training, 4,950 validation, 9,000 test images
The paper:  its Table 2 shows Split-CNN below ViT-Base on CIFAR-10 at N = 10; its values are a
            picture. NNFacet's code is not public: nets, cuts and fits follow EC-SNN's (-act ann).
            Other than there: filters by rank, biases and normalisation copied (`their_way` is the
            letter), the last epoch and not the best on the test split, the data's own mean
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
    name="cifar10-cnn",
    data=DataConfig("cifar10", image_size=(32, 32)),
    model="vgg9",
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
    model="vgg_smoke",
    devices=None,
    base_training=FIT.replace(epochs=2, batch_size=16, learning_rate=1e-3),
    stage_training=FIT.replace(epochs=1, batch_size=16, learning_rate=1e-3),
)
PAPER = {"model": "vgg16", "devices": None, "start_heads": None}

if __name__ == "__main__":
    raise SystemExit(main(__doc__, CONFIG, smoke=SMOKE, paper=PAPER))

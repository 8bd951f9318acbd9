"""CIFAR-10, a VGG split over ten devices class by class: Split-CNN, as NNFacet has it and the paper
compares with. Filters go by their share of zeros (APoZ), by rank; files of 2.45 MiB a device.

Command:    python recipes/cifar10_cnn.py --data-dir DIR
            --budget 94MiB is 9.4 MiB a device; with --reuse WORK of the other run its base is taken
            --max-per-class 700 is Split-SNN's recipe: as many pictures, for a row beside its own
Fleet:      a class a device; a device sends the flattened maps, and one matrix reads all of them
Time:       about 36 minutes of one core (AMD EPYC, bfloat16), by the seconds of single steps: base
            14, fits of the fleet 5, of its rival as many; --smoke takes 20 s of processor time
Base:       a VGG-16 of half the width, four epochs: what two cores allow. The files are as large,
            and as wide, as those that are cut from the whole net (--profile paper, 70 epochs)
Accuracy:   seed 0, 9,000 test images, .tflite: base 76.6 %, one model of a device's size 75.5, the
            ten files fused 64.1, averaged 62.0, floor 42.6; 94 MiB: 80.8, 75.7, 74.8
Data:       to hand: the JPEG sample, 48,510 training, 990 validation, 9,000 test images
The paper:  its Table 2 shows Split-CNN below ViT-Base on CIFAR-10 at N = 10; its values are a
            picture. NNFacet's code is not public: nets, cuts and fits follow EC-SNN's (-act ann).
            Other than there: filters by rank, biases and normalisation copied (`their_way` is the
            letter), the last epoch and not the best on the test split, the data's own mean
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
    name="cifar10-cnn",
    data=DataConfig("cifar10", image_size=(32, 32), options={"validation_count": 1000}),
    model="vgg16_half",
    base_training=FIT.replace(
        batch_size=64, learning_rate=5e-4, precision="auto", epochs=4, warmup_fraction=0.05
    ),
    stage_training=FIT.replace(epochs=2, batch_size=64, learning_rate=5e-4, precision="auto"),
    fusion_training=FIT.replace(batch_size=64, epochs=3, augment="none"),
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
    model="vgg_smoke",
    budget_bytes=None,
    base_training=FIT.replace(epochs=2, batch_size=16, learning_rate=1e-3),
    stage_training=FIT.replace(epochs=1, batch_size=16, learning_rate=1e-3),
)
PAPER = {
    "data": DataConfig("cifar10", image_size=(32, 32)),
    "model": "vgg16",
    "base_training": FIT.replace(epochs=70),
    "stage_training": FIT,
    "fusion_training": FIT.replace(epochs=15, augment="none"),
    "budget_bytes": None,
    "start_heads": None,
}

if __name__ == "__main__":
    raise SystemExit(main(__doc__, CONFIG, smoke=SMOKE, paper=PAPER))

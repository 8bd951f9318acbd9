"""CIFAR-10, split over five devices.

Command:    python recipes/cifar10.py --data-dir DIR
            (cifar-10-batches-py/; without it: Keras's download)
Fleet:      copies of one model with views, unless --fleet says otherwise
Time:       29 minutes summed over the stages on the sample below, one core of an AMD EPYC (AVX-512)
            that other runs shared; 1.3 GB
Accuracy:   test split, .tflite files, seed 0 (500 images: +-4 points): fleet and one model of a
            device's size 45.8 % (no second view was worth a device); base 46.8; a linear classifier
            on pooled pixels 37.2 %, 8.6 points below the fleet (95 % 3.1 to 14.0, McNemar p =
            0.003). From scratch on so few it learns little: cifar10_dinov2.py
Data:       to hand: a sample with exact pixels: 2,700 training, 300 validation, 500 test images
The paper:  86.94 % at N = 5, with a ViT-Base on 50,000 images; not comparable: a twentieth of the
            data, no pretraining
"""

from edvit_tf.cli.recipe import main, paper_profile, smoke_profile
from edvit_tf.config import DataConfig, RunConfig, TrainConfig

FIT = TrainConfig(
    epochs=4, batch_size=64, learning_rate=5e-4, optimizer="muon", augment="shift_flip"
)
CONFIG = RunConfig(
    name="cifar10",
    data=DataConfig("cifar10", image_size=(32, 32)),
    model="vit_cpu",
    patch_size=8,
    base_training=FIT.replace(epochs=30, learning_rate=1e-3, label_smoothing=0.1),
    stage_training=FIT,
    fusion_training=TrainConfig(epochs=30, batch_size=128, learning_rate=1e-3),
    num_devices=5,
    fleet="auto",
    views="auto",
)
SMOKE = smoke_profile(
    DataConfig(
        "cifar10", image_size=(32, 32), options={"max_per_class": 8, "validation_count": 1000}
    ),
    patch_size=8,
)
PAPER = paper_profile(DataConfig("cifar10", image_size=(224, 224)), epochs=10)

if __name__ == "__main__":
    raise SystemExit(main(__doc__, CONFIG, smoke=SMOKE, paper=PAPER))

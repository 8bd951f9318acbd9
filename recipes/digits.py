"""Digits: the 1,797 handwritten ones that scikit-learn ships, on five devices. Real data,
without a download.

Command:    python recipes/digits.py
Fleet:      copies of one model with views, unless --fleet says otherwise
Time:       98 s from git clone to the report, installation aside (two idle cores of an AMD EPYC);
            1.0 GB
Accuracy:   test split, .tflite files, seed 0, 449 digits (+-1 point): fused 99.1 %; base 99.3; one
            model of a device's size 99.1 %, as good; the floor, a linear classifier, 95.3 %. The
            settings were the first ones tried; the base has 99.0 % of the validation digits
Data:       8 x 8 pixels, resized to 16 x 16; 1,146 to train on, 202 for validation, 449 to test.
            The same hands wrote on all sides, so other people's digits will be read less well:
            mnist.py
The paper:  has no such data
"""

from edvit_tf.cli.recipe import main, paper_profile, smoke_profile
from edvit_tf.config import DataConfig, RunConfig, TrainConfig

FIT = TrainConfig(epochs=6, batch_size=32, learning_rate=5e-4, optimizer="muon", augment="affine")
CONFIG = RunConfig(
    name="digits",
    data=DataConfig("digits", image_size=(16, 16)),
    model="vit_mini",
    patch_size=4,
    base_training=FIT.replace(epochs=20, learning_rate=1e-3, label_smoothing=0.1),
    stage_training=FIT,
    fusion_training=TrainConfig(epochs=10, batch_size=32, learning_rate=1e-3),
    num_devices=5,
    fleet="auto",
    views="auto",
)
SMOKE = smoke_profile(
    DataConfig("digits", image_size=(16, 16), options={"max_per_class": 8}), patch_size=4
)
PAPER = paper_profile(DataConfig("digits", image_size=(224, 224)), epochs=10)

if __name__ == "__main__":
    raise SystemExit(main(__doc__, CONFIG, smoke=SMOKE, paper=PAPER))

"""Caltech-256: its ten biggest folders (the clutter folder counted, as in the paper), split over
five devices.

Command:    python recipes/caltech256.py --data-dir DIR
            (DIR holds 256_ObjectCategories/NNN.<class>/*.jpg)
Fleet:      copies of one model with views, unless --fleet says otherwise
Time:       9 minutes summed over the stages, on one thread of an Intel Xeon (AMX); 1.8 GB
Accuracy:   test split, .tflite files, seeds 0 / 1 / 2 (each its own split, 282 pictures: +-5
            points), mean: fleet 76.2 / 79.4 / 83.3, 79.7 +- 3.6 %; one model of a device's size
            76.2 / 77.7 / 80.5, 78.1 %; base 75.5 / 79.1 / 77.0, 77.2 %; a linear classifier 77.0 /
            74.5 / 75.2, 75.6 %. A class split (--fleet classes --views none): 78.13 +- 0.20 %
Data:       to hand: Caltech-101's ten biggest classes, 1,408 pictures (1,013 / 113 / 282), an
            easier set
The paper:  over 90 %, on 4,525 pictures of Caltech-256 with a ViT-Base; not comparable: other
            pictures, another base
"""

from edvit_tf.cli.recipe import main, paper_profile, smoke_profile
from edvit_tf.config import DataConfig, RunConfig, TrainConfig

CONFIG = RunConfig(
    name="caltech256",
    data=DataConfig("caltech256", image_size=(64, 64)),
    model="vit_cpu",
    patch_size=16,
    base_training=TrainConfig(
        epochs=20, batch_size=32, learning_rate=5e-4, augment="shift_flip", label_smoothing=0.1
    ),
    stage_training=TrainConfig(epochs=6, batch_size=32, learning_rate=5e-4, augment="shift_flip"),
    fusion_training=TrainConfig(epochs=30, batch_size=32, learning_rate=1e-3),
    num_devices=5,
    fleet="auto",
    views="auto",
)
SMOKE = smoke_profile(DataConfig("caltech256", image_size=(64, 64), options={"max_per_class": 6}))
PAPER = paper_profile(DataConfig("caltech256", image_size=(224, 224)), epochs=10)

if __name__ == "__main__":
    raise SystemExit(main(__doc__, CONFIG, smoke=SMOKE, paper=PAPER))

"""GTZAN: ten music genres, split over five devices. Without data: a synthetic stand-in, said so
loudly.

Command:    python recipes/gtzan.py --data-dir DIR     (DIR holds genres/<genre>/<genre>.NNNNN.wav)
Fleet:      copies of one model with views, unless --fleet says otherwise; what follows was
            measured with --fleet classes --views none
Time:       5 to 6 minutes a seed on the sample below, on one core of an Intel Xeon (AMX); 1.8 GB
Accuracy:   test split, .tflite files, seeds 0 / 1 / 2 (each its own split, 70 recordings: +-11
            points), mean: fused 62.9 / 67.1 / 67.1, 65.7 +- 2.5 %; base 60.0 / 64.3 / 58.6, 61.0 +-
            3.0 %; one model of a device's size 68.6 / 57.1 / 58.6, 61.4 +- 6.2 %: four points worse
            on the mean, and the seeds disagree
Data:       a sample: 80 tracks' first 12 s and 259 excerpts of 2-3 s; the base is trained from
            scratch on 239 of them
The paper:  over 84 %, on 1,000 whole tracks with a ViT-Base; not comparable: other data, another
            base
"""

from edvit_tf.cli.recipe import main, paper_profile, smoke_profile
from edvit_tf.config import DataConfig, RunConfig, TrainConfig

CONFIG = RunConfig(
    name="gtzan",
    data=DataConfig(
        "gtzan",
        image_size=(64, 64),
        options={"window_seconds": 2.0, "synthetic_per_class": 40},
        stand_in=True,
    ),
    model="vit_cpu",
    patch_size=16,
    base_training=TrainConfig(
        epochs=30, batch_size=32, learning_rate=5e-4, augment="mask", label_smoothing=0.1
    ),
    stage_training=TrainConfig(epochs=8, batch_size=32, learning_rate=5e-4, augment="mask"),
    fusion_training=TrainConfig(epochs=30, batch_size=32, learning_rate=1e-3),
    num_devices=5,
    fleet="auto",
    views="auto",
)
SMOKE = smoke_profile(
    DataConfig(
        "gtzan",
        image_size=(64, 64),
        options={
            "window_seconds": 2.0,
            "synthetic_seconds": 4.0,
            "max_per_class": 4,
        },
    )
)
PAPER = paper_profile(
    DataConfig("gtzan", image_size=(224, 224), options={"window_seconds": 30.0}), epochs=20
)

if __name__ == "__main__":
    raise SystemExit(main(__doc__, CONFIG, smoke=SMOKE, paper=PAPER))

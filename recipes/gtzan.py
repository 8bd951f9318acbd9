"""GTZAN: ten music genres, split over five devices. Without data: a synthetic stand-in, said so
loudly.

Command:    python recipes/gtzan.py --data-dir DIR     (DIR holds genres/<genre>/<genre>.NNNNN.wav)
Fleet:      copies of one model with views, unless --fleet says otherwise. In each seed below no
            view could be told from luck on 30 validation recordings: the devices are replicas of
            one model
Time:       4 to 5 minutes a seed on the sample below, on one busy core of an AMD EPYC (AVX-512);
            1.3 GB
Accuracy:   test split, .tflite files, seeds 0 / 1 / 2 (each its own split, 70 recordings: +-11
            points), mean: the fleet, which is the one model, 70.0 / 57.1 / 61.4, 62.9 +- 6.6 %;
            base 60.0 / 61.4 / 61.4, 61.0 +- 0.8 %; floor 58.6 / 54.3 / 47.1, 53.3 +- 5.8 %. As a
            split by classes (--fleet classes --views none, an earlier version): 65.7 +- 2.5 %
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

"""20 Newsgroups: a pretrained MiniLM, its head for ten groups (or all that are there), split over
five devices.

Command:    python recipes/newsgroups.py --data-dir DIR --base WEIGHTS
            (DIR holds 20news-bydate-train and -test; WEIGHTS: a folder of a BERT in the Hugging
            Face layout with its vocab.txt, or a hub name: sentence-transformers/all-MiniLM-L6-v2)
            For other numbers of devices: edvit sweep recipes/newsgroups.py, with the same options
Fleet:      one class group a device; one model of all classes is cut and fitted, and each group's
            starts from it. 33 MiB of files together, as the paper has a budget for all of them
Time:       an epoch in seconds of one core of an AMD EPYC (AVX-512, bfloat16): base 333, the model
            of a device's size 41 to 63, a group's own fit 19 to 23; some 40 minutes in all
Accuracy:   seed 0, 3,100 test posts, .tflite: base 82.5 %, five files fused 79.7, averaged 80.1,
            one model of a device's size 80.4, floor of words 81.4; three devices 80.6, ten 74.6
Data:       to hand: ten groups; 5,204 posts to train on, 578 for validation, 3,100 for the test, by
            date; headers, footers and quotes are taken away, and 256 posts that are empty then are
            left out
The paper:  BERT on ten classes of 8,452 texts (its Appendix D); classes, split and length are not
            told: not comparable
"""

from edvit_tf.cli.recipe import main, paper_profile, smoke_profile
from edvit_tf.config import DataConfig, PruneConfig, RunConfig, TrainConfig

FIT = TrainConfig(
    epochs=2,
    batch_size=32,
    learning_rate=1e-4,
    feature_distillation=1.0,
    precision="auto",
)
CONFIG = RunConfig(
    name="newsgroups",
    data=DataConfig("newsgroups", image_size=(1, 128), stand_in=True),
    model="minilm",
    base_training=FIT.replace(
        epochs=3, learning_rate=5e-5, label_smoothing=0.1, feature_distillation=0.0
    ),
    shared_training=FIT.replace(epochs=8, learning_rate=5e-4),
    stage_training=FIT,
    fusion_training=TrainConfig(epochs=30, batch_size=32, learning_rate=1e-3),
    calibration_samples=64,
    repair_samples=512,
    teacher_precision="auto",
    pruning=PruneConfig(residual="channels"),
    num_devices=5,
    budget_bytes=33 * 2**20,
)
SMOKE = smoke_profile(
    DataConfig(
        "newsgroups",
        image_size=(1, 24),
        options={"max_per_class": 8, "vocab_size": 600, "synthetic_per_class": 16},
    ),
    model="bert_smoke",
    shared_training=FIT.replace(epochs=1, batch_size=16),
    repair_samples=None,
    budget_bytes=None,
)
PAPER = paper_profile(DataConfig("newsgroups", image_size=(1, 128)), epochs=20) | {
    "model": "bert_base",
    "shared_training": None,
    "patch_size": None,
    "data": DataConfig("newsgroups", image_size=(1, 128)),
}

if __name__ == "__main__":
    raise SystemExit(main(__doc__, CONFIG, smoke=SMOKE, paper=PAPER))

"""20 Newsgroups: posts of ten groups (or of all that are there), split over five devices.

Command:    python recipes/newsgroups.py --data-dir DIR --base WEIGHTS
            (DIR holds 20news-bydate-train and -test; WEIGHTS: a folder of a BERT in the Hugging
            Face layout with its vocab.txt, such as sentence-transformers/all-MiniLM-L6-v2. Without
            --base a small BERT is trained from scratch, whose vocabulary is made of the posts)
Fleet:      one class group a device
Time:       not measured yet; the smoke run took 44 s of one core
Accuracy:   not measured yet
Data:       5,937 posts to train on, of which a tenth are for validation, and 3,201 for the test,
            by date; headers, footers and quotes are taken away, and what is empty then is left out
The paper:  BERT on ten classes of 8,452 texts (its Appendix D); classes, split and length are not
            told: not comparable
"""

from edvit_tf.cli.recipe import main, paper_profile, smoke_profile
from edvit_tf.config import DataConfig, PruneConfig, RunConfig, TrainConfig

FIT = TrainConfig(epochs=8, batch_size=32, learning_rate=1e-4, feature_distillation=1.0)
CONFIG = RunConfig(
    name="newsgroups",
    data=DataConfig("newsgroups", image_size=(1, 128), stand_in=True),
    model="bert_cpu",
    base_training=TrainConfig(epochs=12, batch_size=32, learning_rate=5e-4, label_smoothing=0.1),
    stage_training=FIT,
    fusion_training=TrainConfig(epochs=30, batch_size=32, learning_rate=1e-3),
    calibration_samples=128,
    repair_samples=512,
    pruning=PruneConfig(residual="channels"),
    num_devices=5,
)
SMOKE = smoke_profile(
    DataConfig(
        "newsgroups",
        image_size=(1, 24),
        options={"max_per_class": 8, "vocab_size": 600, "synthetic_per_class": 16},
    ),
    model="bert_smoke",
    repair_samples=None,
)
PAPER = paper_profile(DataConfig("newsgroups", image_size=(1, 128)), epochs=20) | {
    "model": "bert_base",
    "patch_size": None,
    "data": DataConfig("newsgroups", image_size=(1, 128)),
}

if __name__ == "__main__":
    raise SystemExit(main(__doc__, CONFIG, smoke=SMOKE, paper=PAPER))

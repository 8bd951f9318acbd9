"""Speech Commands: ten words, split over five devices. Without data: a synthetic stand-in, said so
loudly.

Command:    python recipes/speech_commands.py --data-dir DIR
            (<word>/<speaker>_nohash_<n>.wav, and the lists)
Fleet:      copies of one model with views, unless --fleet says otherwise; what follows was
            measured with --fleet classes --views none
Time:       15 minutes a seed summed over the stages, one core of an Intel Xeon (AMX) beside other
            work; 1.7 GB
Accuracy:   test split, .tflite files, seeds 0 / 1 / 2, 310 clips (+-6 points at 95 %), mean and
            deviation: fused 49.4 / 43.5 / 47.7, 46.9 +- 3.0 %; base 43.2 / 35.5 / 40.0, 39.6 +- 3.9
            %; one model of a device's size 55.2 / 49.0 / 56.5, 53.5 +- 4.0 %: the split loses.
            Small data, a weak base: speech_commands_dinov2.py
Data:       a sample: 1,720 clips of the ten command words, 1,319 to train on, tested on 310 clips
            of unseen speakers
The paper:  over 90 %, on the ten most populous words with a ViT-Base; not comparable: other words,
            30 times the data
"""

from edvit_tf.cli.recipe import main, paper_profile, smoke_profile
from edvit_tf.config import DataConfig, RunConfig, TrainConfig

CONFIG = RunConfig(
    name="speech_commands",
    data=DataConfig("speech_commands", image_size=(64, 32), stand_in=True),
    model="vit_cpu",
    base_training=TrainConfig(
        epochs=30, batch_size=32, learning_rate=1e-3, augment="shift", label_smoothing=0.1
    ),
    stage_training=TrainConfig(epochs=8, batch_size=32, learning_rate=1e-3, augment="shift"),
    fusion_training=TrainConfig(epochs=30, batch_size=32, learning_rate=1e-3),
    num_devices=5,
    fleet="auto",
    views="auto",
)
SMOKE = smoke_profile(
    DataConfig("speech_commands", image_size=(64, 32), options={"max_per_class": 6})
)
PAPER = paper_profile(DataConfig("speech_commands", image_size=(224, 224)), epochs=20)

if __name__ == "__main__":
    raise SystemExit(main(__doc__, CONFIG, smoke=SMOKE, paper=PAPER))

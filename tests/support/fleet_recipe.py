"""As `small_recipe`, with one fit after the last cut in the place of three: its --smoke profile is
what fleets of every kind are made by, for tests.
"""

import runpy
from pathlib import Path

from edvit_tf.cli.recipe import main
from edvit_tf.config import TrainConfig
from edvit_tf.pipeline import views

# the best of several views is taken, though 60 validation pictures cannot tell it from luck
views.CHANCE = 2.0

small = runpy.run_path(str(Path(__file__).with_name("small_recipe.py")))
SMOKE = {
    **small["SMOKE"],
    "num_devices": 3,
    "shared_training": TrainConfig(epochs=1, batch_size=16),
    "baselines": (),
}

if __name__ == "__main__":
    card = small["mnist"]["__doc__"]
    raise SystemExit(main(card, small["CONFIG"], smoke=SMOKE, paper=small["PAPER"]))

"""The recipe of the MNIST digits with one block in the place of two: its --smoke profile is what
tests run.

Most of a run of seconds goes into tracing graphs, which grow with the blocks; what comes out has
the files, stages and figures of `python recipes/mnist.py --smoke`.
"""

import runpy
from pathlib import Path

from edvit_tf.cli.recipe import main
from edvit_tf.models.vit.presets import PRESETS

PRESETS["vit_one_block"] = {**PRESETS["vit_smoke"], "num_layers": 1}

mnist = runpy.run_path(str(Path(__file__).parents[2] / "recipes" / "mnist.py"))
CONFIG, PAPER = mnist["CONFIG"], mnist["PAPER"]
SMOKE = {**mnist["SMOKE"], "model": "vit_one_block"}

if __name__ == "__main__":
    raise SystemExit(main(mnist["__doc__"], CONFIG, smoke=SMOKE, paper=PAPER))

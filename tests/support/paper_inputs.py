"""What `edvit bench paper` is given where there are neither pictures nor ImageNet weights: noise in
CIFAR-10's folders, and a checkpoint in the layout of Hugging Face with random weights.

    python -m tests.support.paper_inputs FOLDER [vit_small|vit_base|vit_large]

writes FOLDER/pictures (300: 20 a class to train on, 10 to test) and FOLDER/vit_base (330 MiB).
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from edvit_tf.models.vit.presets import PRESETS
from tests.support.checkpoint_files import huggingface
from tests.support.data_files import CIFAR


def write_checkpoint(folder: Path, preset: str = "vit_base", side: int = 224) -> Path:
    """A `preset` for `side` x `side` x 3, whose 1,000 classes are none of ours."""
    widths = PRESETS[preset]
    sizes = tuple(widths[k] for k in ("hidden_dim", "num_heads", "mlp_dim", "num_layers"))
    more = {"image_size": side, "patch_size": widths["patch_size"]}
    huggingface(folder, "vit", classes=1000, sizes=sizes, deviation=0.02, **more)
    return folder


def write_pictures(folder: Path, train: int = 20, test: int = 10) -> Path:
    """folder/{train,test}/<class>/NNNN.png, of each class so many, noise on a tone of its own."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for side, count in (("train", train), ("test", test)):
        for number, name in enumerate(CIFAR):
            place = folder / side / name
            place.mkdir(parents=True, exist_ok=True)
            for i in range(count):
                pixels = rng.integers(0, 100, (32, 32, 3)) + 15 * number
                Image.fromarray(pixels.astype(np.uint8)).save(place / f"{i:04d}.png")
    return folder


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("model", nargs="?", default="vit_base", choices=sorted(PRESETS))
    args = parser.parse_args(argv)
    print(write_pictures(args.folder / "pictures"))
    print(write_checkpoint(args.folder / args.model, args.model))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

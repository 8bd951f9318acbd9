"""Draws 120 pictures of cloth for the tutorial: 40 each of checks, dots and stripes, in any two
colours, of any size of pattern, and noisy as a photograph in poor light.

    python docs/tutorial/make_pictures.py cloth
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("checks", "dots", "stripes")
EACH = 40
SIDE = 96  # pixels
NOISE = 30.0  # of 255, standard deviation


def draw(name: str, random: np.random.Generator) -> Image.Image:
    """One picture of a class."""
    rows, columns = np.indices((SIDE, SIDE)) + random.integers(0, SIDE, (2, 1, 1))
    width = int(random.integers(6, 14))
    across, down = columns // width % 2 == 0, rows // width % 2 == 0
    pattern = {"checks": across ^ down, "dots": across & down, "stripes": across}[name]

    dark, light = random.integers(0, 110, 3), random.integers(145, 256, 3)
    picture = np.where(pattern[..., None], light, dark) + random.normal(0, NOISE, (SIDE, SIDE, 3))
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8))


def main(folder: Path) -> None:
    random = np.random.default_rng(0)
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
        for number in range(EACH):
            draw(name, random).save(folder / name / f"{name}-{number:02d}.jpg", quality=90)
    print(f"{EACH * len(CLASSES)} pictures in {folder}/, a folder for each of {', '.join(CLASSES)}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "cloth"))

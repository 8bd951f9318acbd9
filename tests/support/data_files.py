"""Writes small files in the real layouts of the data sets, for tests."""

import gzip
import pickle
import struct
import wave
from pathlib import Path

import numpy as np

GENRES = (
    "blues",
    "classical",
    "country",
    "disco",
    "hiphop",
    "jazz",
    "metal",
    "pop",
    "reggae",
    "rock",
)
CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
WORDS = ("down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes")


def tone(num_samples: int, pitch: float = 0.05) -> np.ndarray:
    """float32 (num_samples,) of a sine; pitch in radians a sample."""
    return (0.3 * np.sin(pitch * np.arange(num_samples))).astype(np.float32)


def write_wav(path: Path, samples: np.ndarray, rate: int) -> Path:
    """16-bit PCM by the standard library; samples (n,) or (n, channels)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.asarray(samples)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.round(samples * 32767).astype("<i2").tobytes())
    return path


def write_sound(path: Path, samples: np.ndarray, rate: int) -> Path:
    """WAV, FLAC or AU by the file's suffix."""
    if path.suffix == ".wav":
        return write_wav(path, samples, rate)
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype="PCM_16")
    return path


def cut_off(path: Path, keep: float = 0.5) -> Path:
    """Truncates a file to a part of its bytes."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    return path


def write_gtzan(
    folder: Path, tracks=range(6), num_samples=4000, suffix: str = ".wav", rate: int = 22_050
) -> Path:
    """folder/genres/<genre>/<genre>.NNNNN.<suffix>; returns folder."""
    for g, genre in enumerate(GENRES):
        for n in tracks:
            path = folder / "genres" / genre / f"{genre}.{n:05d}{suffix}"
            write_sound(path, tone(num_samples, 0.02 * (g + 1) + 0.001 * n), rate)
    return folder


def write_speech(
    folder: Path, words=WORDS, speakers: int = 10, suffix: str = ".wav", lists: bool = True
) -> Path:
    """folder/<word>/<speaker>_nohash_0.<suffix>; speaker 0 in the testing list, 1 in the validation
    list (as .wav).
    """
    names = [f"{s:08x}" for s in range(speakers)]
    for w, word in enumerate(words):
        for s, name in enumerate(names):
            write_sound(
                folder / word / f"{name}_nohash_0{suffix}",
                tone(16_000, 0.02 * (w + 1) + 0.001 * s),
                16_000,
            )
    if lists:
        for name, speaker in (("testing_list.txt", names[0]), ("validation_list.txt", names[1])):
            (folder / name).write_text("".join(f"{w}/{speaker}_nohash_0.wav\n" for w in words))
    return folder


def write_idx(path: Path, array: np.ndarray) -> Path:
    """One IDX file, gz if the name says so."""
    data = (
        struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape)
        + array.astype(np.uint8).tobytes()
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write_mnist(
    folder: Path, train: int = 200, test: int = 50, end: str = "-ubyte.gz", dotted: bool = False
) -> Path:
    """The four IDX files; labels go round 0..9, row i is all of value i % 256."""
    for name, n in (("train", train), ("t10k", test)):
        pixels = np.repeat(np.arange(n) % 256, 784).reshape(n, 28, 28)
        sep = "." if dotted else "-"
        write_idx(folder / f"{name}-images{sep}idx3{end}", pixels)
        write_idx(folder / f"{name}-labels{sep}idx1{end}", np.arange(n) % 10)
    return folder


def write_cifar_batches(folder: Path, rows: int = 100) -> Path:
    """folder/cifar-10-batches-py/data_batch_1 and test_batch: R plane 10 x label, G plane the row,
    B plane 9.
    """
    target = folder / "cifar-10-batches-py"
    target.mkdir(parents=True, exist_ok=True)
    for name in ("data_batch_1", "test_batch"):
        labels = [i % 10 for i in range(rows)]
        row = np.repeat(np.arange(32), 32)
        planes = [
            np.concatenate([np.full(1024, 10 * y), row, np.full(1024, 9)]).astype(np.uint8)
            for y in labels
        ]
        (target / name).write_bytes(
            pickle.dumps({b"data": np.stack(planes), b"labels": labels}, protocol=2)
        )
    return folder


def write_picture(path: Path, size=(32, 32), mode: str = "RGB", value: int = 100) -> Path:
    """One picture of a plain colour in the given Pillow mode; size (W, H)."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).convert(mode).save(path)
    return path


def write_cifar_folders(folder: Path, each: int = 12) -> Path:
    """folder/{train,test}/<class>/NNNN.png"""
    for side in ("train", "test"):
        for c, name in enumerate(CIFAR):
            for i in range(each):
                write_picture(folder / side / name / f"{i:04d}.png", value=10 * c + i)
    return folder


def write_caltech(folder: Path, sizes: dict[str, int]) -> Path:
    """folder/256_ObjectCategories/<class>/NNN.jpg for each class and its number of pictures."""
    for name, n in sizes.items():
        for i in range(n):
            write_picture(
                folder / "256_ObjectCategories" / name / f"{i:03d}.jpg", size=(40, 30), value=i
            )
    return folder


def write_caltech101(folder: Path, classes: int = 50, each: int = 10) -> Path:
    """folder/101_ObjectCategories/<class>/NNN.jpg, and the background beside them."""
    top = folder / "101_ObjectCategories"
    for name in ("BACKGROUND_Google", *(f"thing{i:02d}" for i in range(classes))):
        for i in range(each):
            write_picture(top / name / f"image_{i:04d}.jpg", size=(8, 6), value=10 * i)
    return folder


def write_omniglot(
    folder: Path, characters: int = 3, drawers: int = 8, alphabets: tuple[str, ...] = ()
) -> Path:
    """folder/<character>/NNNN_DD.png; below a folder of each alphabet where
    there are alphabets.
    """
    places = []
    for alphabet in alphabets or ("",):
        for i in range(characters):
            places.append(folder / alphabet / f"character{i + 1:02d}")
    for number, place in enumerate(places):
        for drawer in range(1, drawers + 1):
            path = place / f"{number:04d}_{drawer:02d}.png"
            write_picture(path, size=(21, 21), mode="1", value=255 * (drawer % 2))
    return folder


def write_texts(folder: Path, each: int = 8, names: tuple[str, ...] = ("praise", "blame")) -> Path:
    """folder/<class>/<number>.txt: texts of a few words, some of them the class's own."""
    for c, name in enumerate(names):
        for i in range(each):
            (folder / name).mkdir(parents=True, exist_ok=True)
            text = f"The {name}ful thing number {i} is w{c} of {name} and w{c} again."
            (folder / name / f"{i:02d}.txt").write_text(text, encoding="utf-8")
    return folder


def write_newsgroups(
    folder: Path, groups: tuple[str, ...] = ("rec.autos", "sci.med"), each: int = 12
) -> Path:
    """20 Newsgroups by date: posts with a header, a quote and a signature."""
    for side in ("train", "test"):
        for number, group in enumerate(groups):
            place = folder / f"20news-bydate-{side}" / group
            place.mkdir(parents=True, exist_ok=True)
            for i in range(each):
                subject = f"{'Re: ' * (i % 2)}thread {number} {i // 2}"
                content = (
                    f"From: writer{i}@{group}\nSubject: {subject}\n\n"
                    f"Somebody writes:\n> quoted words of {group}\n"
                    f"own words of {group} caf\xe9 {i}\n\n--\nsignature of {group}\n"
                )
                (place / str(1000 + i)).write_bytes(content.encode("latin-1"))
    return folder

"""Figures that follow from configurations alone: exact, in no time, on any machine.

Each function returns an item's result: `figures` by key, and of what they are (items.py).
"""

import os
import platform
import runpy
from collections import Counter
from collections.abc import Mapping

from edvit_tf.config import DeviceSpec
from edvit_tf.data import gtzan, speech_commands
from edvit_tf.models import architecture
from edvit_tf.planning.partition import partition
from edvit_tf.planning.plan import Plan, plan
from edvit_tf.reproduce.asked import Asked
from edvit_tf.study.against_n import BUDGETS, against_n, against_n_html
from edvit_tf.study.flops import DEVICES, MODELS, bases, flops_html
from edvit_tf.study.flops import flops as count_flops

MIB = 2**20
GIGA = 10**9
COUNTS = DEVICES  # the paper's N
SHORT = {model: model.removeprefix("vit_") for model in MODELS}
CHANNELS = (3, 1)  # pictures, sound
CLASSES = 10

E2_BUDGET_MIB = 100
E2_DEVICES = 3
# E.3: nine small devices and one big one
SMALL = {"memory_bytes": 10 * MIB, "compute_macs": GIGA // 2}
BIG = {"memory_bytes": 30 * MIB, "compute_macs": 16 * GIGA // 10}
E3_SMALL = 9

GTZAN_HZ, SPEECH_HZ = 22_050, 16_000


def result(figures: Mapping[str, float | str], command: str, **more) -> dict:
    """An item's result, of figures that no data and no base go into."""
    return {
        "figures": dict(figures),
        "data": "no data",
        "base": "none, widths alone",
        "seeds": [],
        "command": command,
        **more,
    }


def flops(asked: Asked) -> dict:
    """Table 4: MACs of a sub-model against N, by the paper's convention, and all of them."""
    figures: dict[str, float | str] = {}
    for channels in CHANNELS:
        for row in count_flops(bases(MODELS, channels=channels)):
            key = f"{SHORT[row['model']]}.{channels}.n{row['devices']}"
            figures[key] = row["macs"] / GIGA
            figures[f"{key}.all"] = row["macs_full"] / GIGA
    drawn = flops_html(count_flops(bases(MODELS)))
    return result(figures, "edvit study flops", html=drawn)


def plans(asked: Asked) -> dict:
    """Algorithm 1 for three models, pictures and sound, against N: heads, weights, all files."""
    figures: dict[str, float | str] = {}
    for model, full in bases(MODELS, classes=1000).items():
        figures[f"{SHORT[model]}.params_millions"] = architecture(full).params(full) / 1e6
        figures[f"{SHORT[model]}.budget_mib"] = BUDGETS[model] / MIB

    for channels in CHANNELS:
        rows = against_n(bases(MODELS, channels=channels))
        whole = {row["model"]: row["weight_bytes"] for row in rows if row["devices"] is None}
        for row in rows:
            figures |= _sizes(row, channels, whole[row["model"]])
    drawn = against_n_html(against_n(bases(MODELS)))[-1][1]
    return result(figures, "edvit study against-n", html=drawn)


def _sizes(row: dict, channels: int, whole_bytes: int) -> dict[str, float | str]:
    """Float32 weights of a base, or of a sub-model and how often they go into the base's."""
    key = f"{SHORT[row['model']]}.{channels}"
    weights = row["weight_bytes"]
    if row["devices"] is None:
        return {f"{key}.mib": weights / MIB}
    key += f".n{row['devices']}"
    return {
        f"{key}.kept": row["kept"],
        f"{key}.mib": weights / MIB,
        f"{key}.mib_ratio": whole_bytes / weights,
        f"{key}.total_mib": row["total_bytes"] / MIB,
    }


def _equal(count: int) -> list[DeviceSpec]:
    return [DeviceSpec(f"pi-{i}") for i in range(count)]


def cases(asked: Asked) -> dict:
    """The case studies: a budget of 100 MB on three devices (E.2), ten unequal devices by Algorithm
    3 (E.3).
    """
    base = bases(["vit_base"])["vit_base"]
    e2 = plan(base, partition(CLASSES, E2_DEVICES), _equal(E2_DEVICES), E2_BUDGET_MIB * MIB)
    kept = Counter(sub.kept for sub in e2.sub_models)
    figures: dict[str, float | str] = {
        "e2.budget_mib": E2_BUDGET_MIB,
        "e2.devices": len(e2.devices),
        "e2.kept_4": kept[4],
        "e2.kept_3": kept[3],
        "e2.total_mib": e2.total_bytes / MIB,
    }

    devices = [DeviceSpec(f"small-{i}", **SMALL) for i in range(E3_SMALL)]
    devices.append(DeviceSpec("big", **BIG))
    e3 = plan(
        base,
        partition(CLASSES, CLASSES),
        devices,
        BUDGETS["vit_base"],
        assignment="greedy",
    )
    figures |= _e3(e3)
    return result(figures, "edvit plan --devices 3 --budget 100MiB")


def _e3(made: Plan) -> dict[str, float]:
    held = Counter(name for sub in made.sub_models for name in sub.devices)
    return {
        "e3.small_devices": E3_SMALL,
        "e3.small_gmacs": SMALL["compute_macs"] / GIGA,
        "e3.small_mib": SMALL["memory_bytes"] / MIB,
        "e3.big_gmacs": BIG["compute_macs"] / GIGA,
        "e3.big_mib": BIG["memory_bytes"] / MIB,
        "e3.kept_2": sum(sub.kept == 2 for sub in made.sub_models),
        "e3.on_big": held["big"],
        "e3.on_small": sum(held[f"small-{i}"] == 1 for i in range(E3_SMALL)),
        "e3.idle": len(made.idle),
    }


def settings(asked: Asked) -> dict:
    """What `--profile paper` of the recipes sets, and the parameters of our spectrograms."""
    pictures, sound = (_paper_of(asked, name) for name in ("cifar10", "gtzan"))
    fit = pictures["base_training"]
    gtzan_seconds = sound["data"].options["window_seconds"]
    figures: dict[str, float | str] = {
        "learning_rate": fit.learning_rate,
        "batch_size": fit.batch_size,
        "epochs_images": fit.epochs,
        "epochs_audio": sound["base_training"].epochs,
        "trials": len(asked.seeds),
        "image_size": pictures["data"].image_size[0],
        "patch_size": pictures["patch_size"],
        "n_fft": gtzan.OPTIONS["n_fft"],
        "hop_length": gtzan.OPTIONS["hop_length"],
        "mel_bands": gtzan.OPTIONS["n_mels"],
        "frames_gtzan": int(gtzan_seconds * GTZAN_HZ) // gtzan.OPTIONS["hop_length"],
        # the frame that is centred on the last sample counts as well
        "frames_speech": 1
        + int(speech_commands.OPTIONS["window_seconds"] * SPEECH_HZ)
        // speech_commands.OPTIONS["hop_length"],
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
    dry = "python recipes/{}.py --profile paper --dry-run"
    of_gtzan = ("epochs_audio", "n_fft", "hop_length", "mel_bands", "frames_gtzan")
    commands = dict.fromkeys(of_gtzan, dry.format("gtzan"))
    commands["frames_speech"] = dry.format("speech_commands")
    commands["trials"] = "edvit reproduce --seeds 0,1,2,3,4"
    return result(figures, dry.format("cifar10"), commands=commands)


def _paper_of(asked: Asked, recipe: str) -> dict:
    """The fields of a recipe's `--profile paper`."""
    return runpy.run_path(str(asked.recipes / f"{recipe}.py"))["PAPER"]

"""A recipe over several numbers of devices (and seeds): one run each, a seed's all from one base;
tables and one page.

Every run is the recipe's own command in a process of its own, so that each is stored, resumed and
refused as always: the same sweep, started again, goes on where it was stopped.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from edvit_tf.errors import OutputError
from edvit_tf.report.sweep import sweep_page, sweep_row


def sweep(
    recipe: Path,
    out: Path,
    devices: Sequence[int],
    seeds: Sequence[int],
    options: Sequence[str],
    jobs: int = 1,
    strategies: Sequence[str] = (),
) -> list[dict]:
    """Runs `recipe` for every seed, number of devices and way to group classes (none given: the
    recipe's own), `options` being the rest of its command line; returns the rows (see
    `edvit_tf.report.sweep.sweep_row`), which are stored in `out`/sweep.json with `out`/report.html.

    The first run of a seed reads the data, trains or loads the base and takes its answers; the
    others take all that from it. Of those `jobs` go on at once, with as many threads each as leaves
    the cores shared out. Raises OutputError when a run fails: its output is in `out`/<run>.log.
    """
    if not recipe.is_file():
        raise OutputError(f"{recipe} is not a file; give a recipe, such as recipes/mnist.py.")
    out.mkdir(parents=True, exist_ok=True)
    ways = list(strategies) or [None]
    names = {
        (seed, count, way): f"seed-{seed}-n{count}" + (f"-{way}" if way else "")
        for seed in seeds
        for count in devices
        for way in ways
    }
    threads = max(1, (os.cpu_count() or 1) // jobs)

    def run(seed: int, count: int, way: str | None) -> None:
        name = names[seed, count, way]
        folder, log = out / name, out / f"{name}.log"
        command = [
            sys.executable,
            str(recipe),
            "--devices",
            str(count),
            "--seed",
            str(seed),
            "--out",
            str(folder),
            *(["--strategy", way] if way else []),
            *options,
        ]
        first = out / f"{names[seed, devices[0], ways[0]]}.work"
        if (count, way) != (
            devices[0],
            ways[0],
        ) and first.is_dir():  # which may be deleted when its run has ended
            command += ["--reuse", str(first)]
        limits = (
            {}
            if jobs == 1
            else {"TF_NUM_INTRAOP_THREADS": str(threads), "TF_NUM_INTEROP_THREADS": "1"}
        )
        print(f"[{name}] {' '.join(command[1:])}", flush=True)
        with log.open("a", encoding="utf-8") as file:
            code = subprocess.run(
                command,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, **limits},
                check=False,
            ).returncode
        if code:
            last = (
                log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
                or ["(it said nothing)"]
            )[-1]
            raise OutputError(
                f"the run {name} ended with {code}: {last[-500:]} Its output is in {log}. "
                "Mend the cause and start the same sweep again: finished runs are kept."
            )

    for seed in seeds:
        rest = [(count, way) for count in devices for way in ways]
        run(seed, *rest.pop(0))
        with ThreadPoolExecutor(jobs) as pool:
            for done in [pool.submit(run, seed, *each) for each in rest]:
                done.result()
    rows = [
        sweep_row(out / names[seed, count, way])
        for count in devices
        for way in ways
        for seed in seeds
    ]
    command = (
        f"edvit sweep {recipe} --devices {','.join(map(str, devices))} --seeds "
        f"{','.join(map(str, seeds))}"
        + (f" --strategies {','.join(strategies)}" if strategies else "")
        + (f" -- {' '.join(_shown(options))}" if options else "")
    )
    (out / "sweep.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    (out / "report.html").write_text(
        sweep_page(f"{recipe.stem}: a sweep over the number of devices", rows, command),
        encoding="utf-8",
    )
    return rows


def _shown(options: Sequence[str]) -> list[str]:
    """Options without the folders of this machine."""
    return [Path(option).name if os.sep in option else option for option in options]

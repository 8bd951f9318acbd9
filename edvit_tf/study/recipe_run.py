"""A recipe in a process of its own, as its own command line starts it: stored, resumed and refused
as always.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from edvit_tf.errors import OutputError


def run_recipe(
    recipe: Path,
    out: Path,
    name: str,
    words: Sequence[str],
    reuse: str | None = None,
    environment: Mapping[str, str] | None = None,
    program: Sequence[str] = (),
) -> None:
    """Runs `recipe` with `words` for the bundle `out`/`name`, with what the run called `reuse` has
    made beside it, where that is still there. Its output goes to `out`/`name`.log; raises
    OutputError if it fails. `program`, as ("-m", MODULE), is what runs the recipe's file, where
    that does not run itself.
    """
    command = [sys.executable, *program, str(recipe), "--out", str(out / name), *words]

    # the stages of an earlier run may be deleted when it has ended
    if reuse is not None and (out / f"{reuse}.work").is_dir():
        command += ["--reuse", str(out / f"{reuse}.work")]
    print(f"[{name}] {' '.join(command[1:])}", flush=True)

    log = out / f"{name}.log"
    with log.open("a", encoding="utf-8") as file:
        done = subprocess.run(
            command,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            check=False,
        )

    if done.returncode:
        # The last line of its output most often says why.
        said = log.read_text(encoding="utf-8", errors="replace").strip()
        last = said.splitlines()[-1] if said else "(it said nothing)"
        raise OutputError(
            f"the run {name} ended with {done.returncode}: {last[-500:]} Its output is in "
            f"{log}. Mend the cause and start the same command again: finished runs are kept."
        )


def at_once(runs: Sequence[Callable[[], None]], jobs: int) -> None:
    """Makes runs that need nothing of each other, `jobs` of them at once. The first failure is
    raised when all have ended.
    """
    # threads are enough: each waits for a process
    with ThreadPoolExecutor(jobs) as pool:
        started = [pool.submit(run) for run in runs]
        for one in started:
            one.result()


def shared_out(jobs: int, ray: str | None) -> dict[str, str]:
    """The environment of runs of which `jobs` go on at once: they share the cores, instead of each
    taking all. On a cluster the nodes have the fits.
    """
    if jobs == 1 or ray is not None:
        return {}
    threads = max(1, (os.cpu_count() or 1) // jobs)
    return {"TF_NUM_INTRAOP_THREADS": str(threads), "TF_NUM_INTEROP_THREADS": "1"}

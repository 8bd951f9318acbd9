"""Members fitted by several processes at once: python -m edvit_tf.pipeline.fitting_process WORK

Small models do not keep many cores busy, so several fits of a few threads each do more than one of
all. A process takes everything from the work folder: configuration, plan, stages. Whoever holds a
member's lock file cuts and fits it; the others go on to the next. As every stage draws its seed
from its name, it does not matter who makes it.
"""

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from edvit_tf.config import Plan, RunConfig, ViTConfig
from edvit_tf.device.errors import DeviceError, DeviceExit
from edvit_tf.errors import EdvitError, OutputError
from edvit_tf.pipeline.store import Stages


def fit_in_processes(stages: Stages, jobs: int, names: Mapping[str, Sequence[str]]) -> None:
    """Makes the stages `names` of every member (by label), with `jobs` processes that share out the
    cores.

    Raises OutputError when one fails, whose words are on standard error by then; the others are
    stopped, and finished stages kept.
    """
    if all(
        (stages.folder / name / "stage.json").is_file() for todo in names.values() for name in todo
    ):
        return
    cores = int(os.environ.get("TF_NUM_INTRAOP_THREADS") or os.cpu_count() or 1)
    threads = str(max(1, cores // jobs))
    environment = {**os.environ, "TF_NUM_INTRAOP_THREADS": threads, "TF_NUM_INTEROP_THREADS": "1"}
    print(
        f"{len(names)} members are fitted by {jobs} processes of {threads} thread(s) each",
        flush=True,
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", __name__, str(stages.folder)],
            env=environment,
            stdin=subprocess.PIPE,
        )
        for _ in range(jobs)
    ]
    try:
        while None in (codes := [process.poll() for process in processes]) and not any(codes):
            time.sleep(0.2)
        if failed := next(filter(None, codes), None):
            raise OutputError(
                f"a process that fitted members ended with {failed} (-9: killed, as for want of "
                "memory); "
                "what it said stands above. Start the same command again: finished stages are kept."
            )
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stdin.close()


def main(work: Path) -> int:
    """Cuts and fits members of the run in `work` until none is left that nobody else holds."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import tensorflow as tf

    from edvit_tf.pipeline.members import tasks
    from edvit_tf.pipeline.rivals import rivals

    tf.config.experimental.enable_op_determinism()
    run = json.loads((work / "run.json").read_text(encoding="utf-8"))
    stages, config = Stages(work, run["key"]), RunConfig.from_dict(run["description"]["config"])

    def result(name: str) -> dict:
        return json.loads(stages.path(name, "stage.json").read_text(encoding="utf-8"))["result"]

    plan, base_config = (
        Plan.from_dict(result("plan")["plan"]),
        ViTConfig.from_dict(result("base")["config"]),
    )
    with contextlib.redirect_stdout(
        None
    ):  # which models are left out has been said by the run itself
        members = [*rivals(config, plan, base_config), *plan.sub_models]  # the longest first
    _, each = tasks(stages, config, base_config, plan, members)
    for label, todo in each.items():
        with _held(work / f".{label}.lock") as mine:
            for task in todo if mine else ():
                if not stages.path(task.name, "stage.json").is_file():
                    stages.run(task.name, task.build)
    return 0


@contextlib.contextmanager
def _held(file: Path) -> Iterator[bool]:
    """Whether this process is the only one that holds the file; it is let go when the process ends,
    however it does.
    """
    with open(file, "w") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _end_with_parent() -> None:
    """Standard input is a pipe of the run, which ends with it: nobody is left to train for."""
    while os.read(
        0, 1024
    ):  # past Python's own buffer, whose lock would be missed when this process ends by itself
        pass
    os._exit(1)


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1])))
    except (EdvitError, DeviceError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(DeviceExit.INTERRUPTED)

"""Members fitted by several processes at once: python -m edvit_tf.pipeline.fitting_process WORK

Small models do not keep many cores busy, so several fits of a few threads each do more than one of
all. A process takes everything from the work folder: configuration, plan, stages. Whoever holds a
member's lock file cuts and fits it; the others go on to the next. As every stage draws its seed
from its name, it does not matter who makes it.
"""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from edvit_tf.config import RunConfig
from edvit_tf.device.errors import DeviceError, DeviceExit
from edvit_tf.device.model.file_lock import hold
from edvit_tf.device.terminal import say_error
from edvit_tf.errors import EdvitError, HostExit, OutputError, TrainingError
from edvit_tf.pipeline.cutting import stages_of
from edvit_tf.pipeline.divide import with_budget
from edvit_tf.pipeline.member import Member
from edvit_tf.pipeline.stage import Run
from edvit_tf.pipeline.store import Stages
from edvit_tf.pipeline.work_folder import stored_record
from edvit_tf.progress import listening, tell
from edvit_tf.progress.noise import inherited_log, native_log


def fit_in_processes(stages: Stages, jobs: int, names: Sequence[str]) -> None:
    """Makes the stages `names`, those of every member, with `jobs` processes that share out the
    cores.

    Raises OutputError when one fails, whose words were told by then; the others are
    stopped, and finished stages kept.
    """
    if all(stages.has(name) for name in names):
        return

    # Each process gets its share of the cores, or TensorFlow would take all of them in each.
    threads = str(max(1, _cores() // jobs))
    environment = {**os.environ, "TF_NUM_INTRAOP_THREADS": threads, "TF_NUM_INTEROP_THREADS": "1"}

    members = len({name.partition(".")[0] for name in names})
    tell(f"{members} members are fitted by {jobs} processes of {threads} thread(s) each")

    command = _command(stages.folder)
    processes = [
        subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="backslashreplace",
        )
        for _ in range(jobs)
    ]
    # what they tell is told here, so that there is one screen and one log
    readers = []
    for process in processes:
        for stream, kind in ((process.stdout, "note"), (process.stderr, "warning")):
            readers.append(threading.Thread(target=_pass_on, args=(stream, kind)))
    for reader in readers:
        reader.start()

    # A process that nobody waits for would go on training: all are ended here.
    try:
        _wait(processes)
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stdin.close()
        for reader in readers:
            reader.join()


def _cores() -> int:
    """Those that TensorFlow would take, which passes over what is no number; 0 is all of them."""
    said = os.environ.get("TF_NUM_INTRAOP_THREADS", "")
    if said.isascii() and said.isdecimal() and int(said) > 0:
        return int(said)
    return os.cpu_count() or 1


def _command(work: Path) -> list[str]:
    return [sys.executable, "-m", __name__, str(work)]


def _pass_on(stream: IO[str], kind: str) -> None:
    """Tells what a process prints, line by line, until it ends; where nobody can be told any more
    (`| head`) the pipe is closed, and it ends as it would at a closed terminal.
    """
    with stream, contextlib.suppress(OSError):
        for line in stream:
            tell(line.rstrip("\n"), kind)


def _wait(processes: list[subprocess.Popen]) -> None:
    """Until all have ended; OutputError as soon as one fails."""
    while True:
        codes = [process.poll() for process in processes]
        failed = [code for code in codes if code]
        if HostExit.TRAINING in failed:
            raise TrainingError(
                "a fit of a process went astray; what it said stands above. Finished stages are "
                "kept."
            )
        if failed:
            raise OutputError(
                f"a process that fitted members ended with {failed[0]} (-9: killed, as for want of "
                "memory); what it said stands above. Start the same command again: finished stages "
                "are kept."
            )

        if None not in codes:
            return
        time.sleep(0.2)


def main(work: Path) -> int:
    """Cuts and fits members of the run in `work` until none is left that nobody else holds."""
    threading.Thread(target=_end_with_parent, daemon=True).start()

    # The import takes seconds, in which the parent may end.
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()

    run = _opened(work)
    for member in sorted(run.members, key=lambda one: one.is_sub_model):  # the longest first
        with _held(work / f".{member.name}.lock") as mine:
            if mine:
                _fit(run, member)
    return 0


def _opened(work: Path) -> Run:
    """The run of a work folder."""
    record = stored_record(work)
    asked = RunConfig.from_dict(record["description"]["config"])
    # the budget was divided by the run itself
    run = with_budget(Run(Stages(work, record["key"]), asked))

    with listening():  # which rivals are left out was said by the run itself
        _ = run.members

    return run


def _fit(run: Run, member: Member) -> None:
    for stage in stages_of(member):
        if not run.stages.has(stage.name):
            run.make(stage)


@contextlib.contextmanager
def _held(file: Path) -> Iterator[bool]:
    """Whether this process is the only one that holds the file; it is let go when the process ends,
    however it does. Nobody holds one on a file system without locks: the run itself fits there.
    """
    with open(file, "w") as opened:
        try:
            # another one's member is left to it at once: there may be more to fit
            mine = hold(opened, patience_seconds=0)
        except BlockingIOError:
            mine = False
        yield mine


def _end_with_parent() -> None:
    """Standard input is a pipe of the run, which ends with it: nobody is left to train for."""
    # Past Python's own buffer, whose lock would be missed when this process ends by itself.
    while os.read(0, 1024):
        pass
    os._exit(1)


if __name__ == "__main__":
    try:
        with native_log(inherited_log()):
            sys.exit(main(Path(sys.argv[1])))
    except (EdvitError, DeviceError) as error:
        say_error(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(DeviceExit.INTERRUPTED)

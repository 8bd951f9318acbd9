"""The tests on a machine that stands still now and then, as one does whose processors are taken.

    python -m tests.stalls -- python -m pytest -q -n 0 tests/system
    python -m tests.stalls --every 4.5 --least 0.4 --most 0.8 --seed 0 -- COMMAND...

The command and all that it starts are in a group of the kernel's freezer. Every few seconds (an
exponential time) nothing of it runs for a while, or in every other stall a half of its processes
does not, as where one of two processors is taken. The clocks go on. What a test says of our
programs holds all the same; what it says of the machine may not. Exit code: the command's. Needs
Linux, root, and the freezer of control groups 1 in /sys/fs/cgroup/freezer.
"""

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

FREEZER = Path("/sys/fs/cgroup/freezer")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.stalls",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--every", type=float, default=4.5, help="seconds between, on average")
    parser.add_argument("--least", type=float, default=0.4, help="seconds of the shortest stall")
    parser.add_argument("--most", type=float, default=0.8, help="seconds of the longest stall")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("command", nargs="+")
    args = parser.parse_args(argv)
    if not FREEZER.is_dir() or os.geteuid():
        parser.error(f"{FREEZER} and root are needed: its processes are frozen by the kernel")

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with _group() as group:
        return _stalled(group, args)


@contextlib.contextmanager
def _group() -> Iterator[Path]:
    """A group of the freezer, with one inside for a part of its processes; what is left at the end
    is told and ended.
    """
    group = FREEZER / f"edvit-stalls-{os.getpid()}"
    part = group / "part"
    group.mkdir()
    part.mkdir()
    try:
        yield group
    finally:
        for each in (part, group):
            _say(each, "THAWED")
            while numbers := _numbers(each):
                for number in numbers:
                    print(f"left running: {_name(number)}", file=sys.stderr)
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(number), signal.SIGKILL)
                time.sleep(0.2)
        part.rmdir()
        group.rmdir()


def _stalled(group: Path, args: argparse.Namespace) -> int:
    """Runs the command in the group, with stalls; returns its exit code."""
    rng, stalls, started = random.Random(args.seed), 0, time.monotonic()
    process = subprocess.Popen(args.command, preexec_fn=lambda: _move("0", group))
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(rng.expovariate(1 / args.every))
            break

        who = _part(group, rng) if stalls % 2 else group
        _say(who, "FROZEN")
        time.sleep(rng.uniform(args.least, args.most))
        _say(who, "THAWED")
        for number in _numbers(group / "part"):
            _move(number, group)
        stalls += 1

    print(f"{stalls} stalls in {time.monotonic() - started:.0f} s", file=sys.stderr)
    return code if code >= 0 else 128 - code


def _part(group: Path, rng: random.Random) -> Path:
    """Half of the processes; the machine's clock with them, as it visits every processor."""
    for number in _numbers(group):
        if rng.random() < 0.5 or "machine_clock" in _name(number):
            _move(number, group / "part")

    return group / "part"


def _numbers(group: Path) -> list[str]:
    return (group / "cgroup.procs").read_text().split()


def _move(number: str, group: Path) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has ended since
        (group / "cgroup.procs").write_text(number)


def _name(number: str) -> str:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{number}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


def _say(group: Path, state: str) -> None:
    (group / "freezer.state").write_text(state)


if __name__ == "__main__":
    sys.exit(main())

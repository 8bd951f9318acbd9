"""How much a run shows of itself: --quiet, --json, --version, and the log beside what it makes."""

import argparse
import contextlib
import platform
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import edvit_tf
from edvit_tf.progress.events import Event, Lines, Listener, listening
from edvit_tf.progress.interrupts import heeded
from edvit_tf.progress.noise import native_log
from edvit_tf.progress.screens import JsonLines, LogFile, Quiet


def add_progress(parser: argparse._ArgumentGroup | argparse.ArgumentParser) -> None:
    """Adds `--quiet` and `--json` to a parser or a group of its options."""
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument(
        "--quiet", action="store_true", help="show warnings and errors alone; the log has the rest"
    )
    shown.add_argument(
        "--json",
        action="store_true",
        help="show events for programs, a JSON object on each line (edvit_tf.progress.events)",
    )


def log_of(out: Path) -> Path:
    """The log of the run that makes a bundle: beside it, `<out>.log`."""
    out = Path(out).expanduser().resolve()
    return out.with_name(out.name + ".log")


@contextlib.contextmanager
def shown(args: argparse.Namespace, log: Path | None) -> Iterator[None]:
    """Events go where `args` say, and into the log; what native libraries write goes there too.

    A run that is refused before its first stage leaves no log, and no folder for one.
    """
    listeners: list[Listener] = []
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(_place_of(log, listeners))
        if log is not None:
            listeners.append(LogFile(log))
        stack.enter_context(native_log(log))
        stack.enter_context(heeded())
        if args.json:
            listeners.append(JsonLines())
        elif args.quiet:
            listeners.append(Quiet())
        elif sys.stdout.isatty() and sys.stderr.isatty():
            # rich is there where something is trained
            from edvit_tf.progress.live import Live

            listeners.append(stack.enter_context(Live().shown()))
        else:
            listeners.append(Lines())
        stack.enter_context(listening(*listeners))
        keepers = [one for one in listeners if isinstance(one, LogFile | JsonLines)]
        for keeper in keepers:
            keeper.hear(_begun())

        # on the screen errors are the command line's own last words
        try:
            yield
        except BaseException as error:
            for keeper in keepers:
                keeper.hear(_ended_by(error))
            raise


@contextlib.contextmanager
def before_run(args: argparse.Namespace) -> Iterator[None]:
    """What is told before a run knows where it goes, and so has no log: as `args` say. With --json
    an error is an event as well.
    """
    if not (args.json or args.quiet):
        yield
        return
    keeper = JsonLines() if args.json else Quiet()
    with listening(keeper):
        try:
            yield
        except BaseException as error:
            if args.json:
                keeper.hear(_ended_by(error))
            raise


class _Stages:
    """Hears whether a stage has begun."""

    begun = False

    def hear(self, event: Event) -> None:
        self.begun = self.begun or event.kind == "stage"


@contextlib.contextmanager
def _place_of(log: Path | None, listeners: list[Listener]) -> Iterator[Path | None]:
    """The log, with a folder to lie in; None where there can be none, of which the run has words
    of its own.
    """
    made: list[Path] = []
    stages = _Stages()
    listeners.append(stages)
    if log is not None:
        is_new = not log.exists()
        try:
            for folder in reversed([one for one in log.parents if not one.exists()]):
                folder.mkdir()
                made.append(folder)
            with open(log, "a"):
                pass
        except OSError:
            log = None

    try:
        yield log
    except BaseException:
        if log is not None and is_new and not stages.begun:
            _take_back(log, made)
        raise


def _take_back(log: Path, folders: list[Path]) -> None:
    """Removes the log, and the folders that were made for it, the last one first, if empty."""
    with contextlib.suppress(OSError):
        log.unlink(missing_ok=True)
        for folder in reversed(folders):
            folder.rmdir()


def _begun() -> Event:
    """What the log of a run begins with: the command, and what it runs on."""
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
    python = f"Python {platform.python_version()}, {platform.machine()}"
    text = f"{command} (edvit_tf {edvit_tf.__version__}, {python})"
    return Event("note", text, {"command": command, "version": edvit_tf.__version__})


def _ended_by(error: BaseException) -> Event:
    """What a log ends with: the words of an error that is expected, or all of one that is not."""
    code = getattr(error, "exit_code", None)
    text = f"error: {error}" if str(error) else type(error).__name__
    if code is None and not isinstance(error, OSError | KeyboardInterrupt):
        text = "".join(traceback.format_exception(error))
    return Event("error", text, {"exit_code": code})

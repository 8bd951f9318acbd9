"""`python ARGUMENTS...` without the seconds that a fresh interpreter takes to load our modules.

An interpreter loads the modules of the host (TensorFlow, Keras: 4 to 8 s of CPU) or of the device
(0.7 s) once for each process of tests, and waits. `Forked` is a subprocess.Popen whose child is a
fork of it: a process of its own, with its arguments, environment, folder, files, signals, memory
and exit code. What a fork cannot show is what is told of a fresh interpreter, such as which modules
a command loads: such tests take subprocess.Popen.

    python -m tests.support.forked DESCRIPTOR MODULE...     the interpreter that waits

A line of JSON comes through the socket with the descriptors of the child's three files; the number
of the child goes back. The child's parent is the process of the tests (a "subreaper", Linux alone),
which waits for it as for any other.
"""

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import random
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import warnings
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[2]
HOST = ("tensorflow", "keras", "keras_cv", "librosa", "scipy.optimize", "edvit_tf.pipeline.run")
DEVICE = ("numpy", "edvit_tf.device.worker.server", "edvit_tf.aggregate.server")

# Variables that are read when a command runs, and those that TensorFlow sets for itself. With a
# change of any other, which may be read when a module is loaded, a fresh interpreter is started.
READ_LATE = ("EDVIT_", "TF_NUM_", "TMPDIR", "PATH", "PYTEST_")
OF_TENSORFLOW = (
    "ENABLE_RUNTIME_UPTIME_TELEMETRY",
    "HDF5_PLUGIN_PATH",
    "KMP_",
    "TF2_BEHAVIOR",
    "TPU_ML_PLATFORM",
)

_PR_SET_CHILD_SUBREAPER = 36


class Forked(subprocess.Popen):
    """A Popen of [sys.executable, "-m" | "-c" | FILE, ...], forked where that shows no difference.

    `modules` is HOST or DEVICE: what the interpreter has loaded that is forked.
    """

    def __init__(self, arguments, *, modules: tuple[str, ...], **options) -> None:
        self._modules = modules
        super().__init__(arguments, **options)

    def _execute_child(self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *rest):
        arguments = [os.fspath(argument) for argument in args]
        plain = executable is None and preexec_fn is None and not pass_fds
        environment = dict(os.environ if env is None else env)
        if not plain or not _can_fork(arguments, environment):
            return super()._execute_child(
                args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *rest
            )

        # startupinfo, creationflags, shell, and the ends of the three pipes, -1 where there is none
        p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite = rest[3:9]
        files = [
            number if given == -1 else given
            for number, given in enumerate((p2cread, c2pwrite, errwrite))
        ]
        self.pid = _waiting(self._modules).fork(
            {
                "arguments": arguments[1:],
                "environment": environment,
                "folder": str(cwd or os.getcwd()),
            },
            files,
        )
        self._child_created = True
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)


def run(
    arguments, *, modules: tuple[str, ...], input=None, timeout: float, **options
) -> subprocess.CompletedProcess:
    """As subprocess.run with capture_output, by `Forked`."""
    source = subprocess.DEVNULL if input is None else subprocess.PIPE
    with Forked(
        arguments,
        modules=modules,
        stdin=source,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    ) as process:
        try:
            stdout, stderr = process.communicate(input, timeout=timeout)
        except BaseException:
            process.kill()
            raise

    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def _can_fork(arguments: list[str], environment: dict[str, str]) -> bool:
    if not sys.platform.startswith("linux") or arguments[0] != sys.executable:
        return False

    changed = {
        name for name in {*environment, *_start} if environment.get(name) != _start.get(name)
    }
    if not all(name.startswith((*READ_LATE, *OF_TENSORFLOW)) for name in changed):
        return False

    return arguments[1] in ("-m", "-c") or not arguments[1].startswith("-")


class _Waiting:
    """An interpreter that has loaded modules and is forked, until the process of the tests ends."""

    def __init__(self, modules: tuple[str, ...]) -> None:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._socket, other = socket.socketpair()
        self._lock = threading.Lock()
        with other:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(other.fileno()), *modules],
                cwd=ROOT,
                env=_start,
                pass_fds=[other.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )

    def fork(self, command: dict, files: list[int]) -> int:
        """Number of the process that runs `command`, with these three files."""
        with self._lock:
            message = json.dumps(command).encode()
            socket.send_fds(self._socket, [b"%12d" % len(message)], files)
            self._socket.sendall(message)
            answer = self._socket.recv(12, socket.MSG_WAITALL)

        assert len(answer) == 12, f"{self._process.args} has ended with {self._process.wait()}"
        return int(answer)

    def end(self) -> None:
        self._socket.close()
        self._process.wait()


_start = dict(os.environ)
_kept: dict[tuple[str, ...], _Waiting] = {}
_making = threading.Lock()


def _waiting(modules: tuple[str, ...]) -> _Waiting:
    with _making:
        if modules not in _kept:
            _kept[modules] = _Waiting(modules)

        return _kept[modules]


def end_all() -> None:
    """Ends the interpreters that wait; conftest.py calls it when the tests have ended."""
    while _kept:
        _kept.popitem()[1].end()


def _serve(channel: socket.socket) -> tuple[dict, list[int]]:
    """Answers until the other end is closed; returns, in a fork, what to run and its files."""
    while True:
        length, files, _, _ = socket.recv_fds(channel, 12, 3)
        if not length:
            sys.exit(0)

        command = json.loads(channel.recv(int(length), socket.MSG_WAITALL))
        read, write = os.pipe()
        between = os.fork()
        if between == 0:
            child = os.fork()
            if child == 0:
                os.close(read)
                os.close(write)
                channel.close()
                return command, files

            os.write(write, b"%12d" % child)
            os._exit(0)

        # when it has ended, its child belongs to the process of the tests
        os.waitpid(between, 0)
        channel.sendall(os.read(read, 12))
        for descriptor in (read, write, *files):
            os.close(descriptor)


def _become(command: dict, files: list[int]) -> None:
    """Makes this fork look as a fresh interpreter does that was given the command."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)

    os.environ.clear()
    os.environ.update(command["environment"])
    os.chdir(command["folder"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    warnings.resetwarnings()
    random.seed()
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    tempfile.tempdir = None
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)


def _run(arguments: list[str]) -> None:
    """As `python ARGUMENTS...` does: a file, -m MODULE, or -c CODE."""
    first, *rest = arguments
    if first == "-m":
        sys.argv, sys.path[0] = rest, os.getcwd()
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif first == "-c":
        sys.argv, sys.path[0] = ["-c", *rest[1:]], ""
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv, sys.path[0] = arguments, str(Path(first).resolve().parent)
        runpy.run_path(first, run_name="__main__")


def _end(arguments: list[str]) -> NoReturn:
    """Runs a command and ends as an interpreter does, but for the seconds in which it takes apart
    all that TensorFlow has loaded.
    """
    code: object = 0
    try:
        _run(arguments)
    except SystemExit as end:
        code = end.code
    except KeyboardInterrupt:
        traceback.print_exc()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:  # noqa: BLE001, as the interpreter tells it
        traceback.print_exc()
        code = 1

    if not (code is None or isinstance(code, int)):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit((code or 0) & 0xFF)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the tests end it
    warnings.simplefilter("ignore")  # Python 3.12 warns of forks beside the threads of numpy
    for name in sys.argv[2:]:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)

    # a collection would write to, and so copy, all the pages that the forks share
    gc.collect()
    gc.freeze()
    command, files = _serve(socket.socket(fileno=int(sys.argv[1])))
    _become(command, files)
    _end(command["arguments"])


if __name__ == "__main__":
    main()

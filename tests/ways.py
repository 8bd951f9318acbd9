"""How many files and functions of ours something passes on its way: a request, or a weight.

    python -m tests.ways request BUNDLE     one ModelInfer through an aggregator and its workers
    python -m tests.ways weight             from the base to the .tflite files, in a smoke run
    ... --names                             the functions by name

A profile hook in the running processes notes each function of `edvit_tf` that is called. Of a
request those between its start and its answer, by process. Of a weight those that are given, or
give back, the weights of a model by name. Counted so, two versions of the code can be compared.
"""

import argparse
import contextlib
import json
import os
import re
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = str(ROOT / "edvit_tf") + os.sep
A_WEIGHT = "head.kernel"  # in every dictionary that holds a model's weights

# In a server: SIGUSR2 forgets what was called so far, the next one writes down what was since.
LISTENING = """
import json, os, runpy, signal, sys, threading
seen, marks = set(), []
def profile(frame, event, argument):
    code = frame.f_code
    if event == "call" and code.co_filename.startswith({package!r}):
        seen.add((code.co_filename[len({package!r}):], code.co_qualname))
def mark(number, frame):
    marks.append(number)
    if len(marks) == 2:
        with open({file!r} + ".partial", "w") as out:
            json.dump(sorted(seen), out)
        os.replace({file!r} + ".partial", {file!r})
    seen.clear()
signal.signal(signal.SIGUSR2, mark)
threading.setprofile(profile)
sys.setprofile(profile)
sys.argv = ["", *sys.argv[1:]]
runpy.run_module({module!r}, run_name="__main__")
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("request", "weight"))
    parser.add_argument("bundle", type=Path, nargs="?", help="of the request")
    parser.add_argument("--names", action="store_true", help="the functions by name")
    args = parser.parse_args()
    if args.what == "request" and args.bundle is None:
        parser.error("request needs a BUNDLE")

    found = request(args.bundle) if args.what == "request" else {"weight": weight()}
    for name, functions in found.items():
        files = {file for file, _ in functions}
        print(f"{name}: {len(functions)} functions in {len(files)} files")
        if args.names:
            print("".join(f"    {file}: {function}\n" for file, function in functions), end="")
    return 0


def request(bundle: Path) -> dict[str, list]:
    """The functions that one request passes in the aggregator, and in the first worker."""
    from tritonclient import grpc as triton

    manifest = json.loads((bundle / "manifest.json").read_text("utf-8"))
    count, entry = len(manifest["sub_models"]), manifest["input"]
    kind = {"uint8": "UINT8", "float32": "FP32", "int32": "INT32"}[entry["dtype"]]
    x = np.zeros((1, *entry["shape"]), entry["dtype"])

    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as running:
        workers = [
            running.enter_context(
                _server("edvit_tf.device", Path(folder), str(bundle), "--submodel", str(index))
            )
            for index in range(count)
        ]
        addresses = ",".join(address for _, address, _ in workers)
        hub = running.enter_context(
            _server("edvit_tf.cli", Path(folder), "serve", str(bundle), "--devices", addresses)
        )

        client = triton.InferenceServerClient(hub[1])
        given = triton.InferInput(entry["name"], list(x.shape), kind)
        given.set_data_from_numpy(x)
        _until(client.is_server_ready)
        for _ in range(3):  # what is made at the first call is made
            client.infer("edvit", [given])

        asked = {"aggregator": hub, "worker": workers[0]}
        for process, _, _ in asked.values():
            process.send_signal(signal.SIGUSR2)
        time.sleep(0.1)
        client.infer("edvit", [given])
        for process, _, _ in asked.values():
            process.send_signal(signal.SIGUSR2)
        for _, _, file in asked.values():
            _until(file.is_file)
        return {name: json.loads(file.read_text()) for name, (_, _, file) in asked.items()}


@contextlib.contextmanager
def _server(module: str, folder: Path, *arguments: str):
    """(process, address, file of the functions) of a server of ours with the hook."""
    name = f"{module}-{time.monotonic_ns()}"
    file, log = folder / f"{name}.json", folder / f"{name}.log"
    code = LISTENING.format(package=PACKAGE, file=str(file), module=module)
    command = [sys.executable, "-c", code, *arguments, "--listen", "127.0.0.1:0", "--insecure"]

    with open(log, "wb") as opened:
        process = subprocess.Popen(command, cwd=ROOT, stderr=opened)
    try:
        serving = _until(
            lambda: re.search(r'"event": "serving".*"address": "([^"]+)"', log.read_text())
        )
        yield process, serving.group(1), file
    finally:
        process.kill()
        process.wait()


def _until(what, seconds: float = 60):
    """The first true value of `what()`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := what():
            return value
        time.sleep(0.05)
    raise SystemExit(f"nothing after {seconds} s")


def weight() -> list:
    """The functions that are given a model's weights, or give them back, in a smoke run."""
    seen = set()

    def profile(frame, event: str, argument) -> None:
        code = frame.f_code
        if not code.co_filename.startswith(PACKAGE):
            return
        if event == "call":
            passed = list(frame.f_locals.values())
        else:
            passed = [argument] if event == "return" else []
        if any(map(_holds_weights, passed)):
            seen.add((code.co_filename[len(PACKAGE) :], code.co_qualname))

    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "out")
        sys.argv = ["recipes/gtzan.py", "--smoke", "--synthetic", "--out", out]
        sys.setprofile(profile)
        with contextlib.suppress(SystemExit), contextlib.redirect_stdout(sys.stderr):
            runpy.run_path(str(ROOT / "recipes" / "gtzan.py"), run_name="__main__")
        sys.setprofile(None)
    return sorted(seen)


def _holds_weights(value) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_holds_weights, value[:16]))
    return isinstance(value, dict) and A_WEIGHT in value


if __name__ == "__main__":
    raise SystemExit(main())

"""`edvit predict`: asks an aggregator for files, folders, or a stream of frames or sound.

A file that cannot be used does not end the command: the others are answered, it is named on
standard error, and the exit code says so at the end.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

from edvit_tf.cli.given_files import GivenFile, given_files, given_texts, read
from edvit_tf.cli.values import user_path
from edvit_tf.device.__main__ import positive as positive_number
from edvit_tf.device.errors import DeviceExit, ExitCode
from edvit_tf.device.model.text import TextSpec
from edvit_tf.device.strict_json import finite_json
from edvit_tf.device.terminal import printable, say_error

# A file that is sent as it is: more than any kind of input takes, and less than fills a memory.
MOST_FILE_BYTES = 64 << 20
# What the aggregator says of a request: another file may do well.
_OF_THE_FILE = ("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION")
# And of itself, or of its devices: the next may do well, a few in a row say that none will.
_OF_THE_FLEET = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN", "CANCELLED")
_FLEET_FAILURES = 3
_WORDS = 4000  # characters of each thing that a server says in an answer


def add_predict(commands) -> None:
    """Adds `predict` to the subparsers of `edvit`."""
    predict = commands.add_parser(
        "predict", help="ask an aggregator for files, folders, or a stream of frames"
    )
    predict.add_argument(
        "files",
        nargs="*",
        metavar="FILE",
        help="pictures, recordings, texts in UTF-8, folders of them (without hidden files); of a "
        "fleet for texts also a text itself, in quotation marks",
    )

    predict.add_argument(
        "--server",
        metavar="HOST:PORT",
        help="of an aggregator, with --identity or --insecure (default: the `edvit up` that runs "
        "on this machine)",
    )
    add_identity(predict, "no TLS", required=False)

    predict.add_argument(
        "--bundle",
        type=user_path,
        help="cut recordings into its windows here; without it, and with --server, files are sent "
        "as they are, and a recording longer than a window is refused",
    )
    predict.add_argument(
        "--stream",
        nargs="?",
        const="frames",
        choices=("frames", "pcm"),
        help="from standard input: "
        "frames (the default) are raw inputs of the model's shape; pcm is sound, signed 16-bit "
        "little-endian mono at the rate of --bundle, an answer a window",
    )
    predict.add_argument(
        "--hop",
        type=positive_number,
        metavar="SECONDS",
        help="with --stream pcm: from one window's start to the next one's (default: a window)",
    )

    predict.add_argument(
        "--timeout-ms", type=positive_number, default=5000.0, help="of each request (default 5000)"
    )
    predict.add_argument("--json", action="store_true", help="a JSON object a line")

    predict.set_defaults(run=_predict, wrong_usage=predict.error)


def add_identity(parser: argparse.ArgumentParser, insecure: str, required: bool = True) -> None:
    """Adds --identity and --insecure, whose help is `insecure`."""
    # One of the two has to be said: no connection lacks TLS because an option was forgotten.
    group = parser.add_mutually_exclusive_group(required=required)
    group.add_argument(
        "--identity", type=user_path, metavar="FOLDER", help="of `edvit certs issue`"
    )
    group.add_argument("--insecure", action="store_true", help=insecure)


def _predict(args) -> int:
    # Before grpc is imported, which reads it once.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

    from edvit_tf.aggregate.client import Client
    from edvit_tf.device.model.bundle import open_bundle
    from edvit_tf.device.rpc import tls

    _check_predict(args)
    if args.server is None:
        take_running(args)

    bundle = None if args.bundle is None else open_bundle(args.bundle)
    sound = _sound(bundle, args.hop) if args.stream == "pcm" else None
    own = None if args.insecure else tls.identity(args.identity)
    _make_printable()

    client = Client(server_address(args.server), own, args.timeout_ms / 1e3)
    try:
        # Windows are cut here by its rule, so it has to be the bundle that is served.
        if bundle is not None:
            client.check_bundle(bundle)
        if args.files:
            return _ask_files(client, _given(args.files, client), bundle, args.json)
        _ask_stream(client, sound, args.json)
    except BrokenPipeError:
        # `| head` has read what it wanted; what is still buffered has no reader either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        client.close()

    return DeviceExit.DONE


def _given(arguments: list[str], client) -> list[GivenFile]:
    """What is asked for: of a fleet for texts they may stand on the command line."""
    from edvit_tf.errors import ConfigError

    try:
        if client.input.name == TextSpec.name:
            return given_texts(arguments)
        return given_files([user_path(argument) for argument in arguments])
    except argparse.ArgumentTypeError as error:  # the home of somebody who is not known
        raise ConfigError(f"{error}.") from error


def take_running(args) -> None:
    """Sets --server, --insecure and --bundle to those of the `edvit up` that runs here.

    Raises RequestFailed if there is none, ConfigError if there are several.
    """
    from edvit_tf.device.model.bundle import open_bundle
    from edvit_tf.errors import ConfigError, RequestFailed
    from edvit_tf.operate.running import running

    found = running()
    if args.bundle is not None:
        digest = open_bundle(args.bundle).digest
        found = [one for one in found if one.bundle_digest == digest]

    if not found:
        of_it = "" if args.bundle is None else f" of {args.bundle}"
        raise RequestFailed(
            f"no `edvit up`{of_it} runs here. Start one in another terminal: edvit up BUNDLE. Or "
            "give --server HOST:PORT, with --identity FOLDER or --insecure."
        )
    if len(found) > 1:
        rows = "".join(f"\n  --server {one.server} --insecure   {one.bundle}" for one in found)
        raise ConfigError(f"{len(found)} fleets run here; give one of them:{rows}")

    args.server, args.insecure = found[0].server, True
    if args.bundle is None:
        args.bundle = user_path(found[0].bundle)


def _make_printable() -> None:
    """A terminal or a pipe whose encoding lacks a letter gets it escaped, and no traceback."""
    # not where a test has taken the place of standard output
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")


def server_address(server: str, option: str = "--server") -> str:
    """HOST:PORT of an aggregator, as gRPC takes it. Raises ConfigError, which names `option`."""
    from edvit_tf.device.errors import AddressError
    from edvit_tf.device.rpc.ports import bracketed, split_address
    from edvit_tf.errors import ConfigError

    try:
        host, port = split_address(server)
    except AddressError:
        host, port = "", 0

    # a scheme, a path, or an address of IPv6 that lacks its brackets or its port
    plain = "/" not in host and (":" not in host or server.startswith("["))
    if not (host and port and plain):
        raise ConfigError(
            f"{option} is {server!r}; it must be HOST:PORT, the host without http://, an address "
            "of IPv6 in brackets. Write for instance hub.local:8000, or [::1]:8000."
        )

    return bracketed(host, port)


def _ask_files(client, files: list[GivenFile], bundle, as_json: bool) -> ExitCode:
    """Shows the answer of each file, or says on standard error why it has none; returns the exit
    code of the first that had none.

    Raises RequestFailed when a few in a row had none for reasons that are not theirs, or when no
    further one can be answered.
    """
    from edvit_tf.errors import EdvitError, RequestFailed

    code: ExitCode = DeviceExit.DONE
    failed = in_a_row = 0

    for place, file in enumerate(files):
        try:
            answer = _answer(client, file, bundle)
        except EdvitError as error:
            status = error.status if isinstance(error, RequestFailed) else _OF_THE_FILE[0]
            if status not in (*_OF_THE_FILE, *_OF_THE_FLEET):
                raise

            say_error(f"{printable(file.name)}: {error}")
            code = code or error.exit_code
            failed += 1
            in_a_row = in_a_row + 1 if status in _OF_THE_FLEET else 0
            if in_a_row == _FLEET_FAILURES:
                first = printable(files[place + 1 - in_a_row].name)
                raise RequestFailed(
                    f"the last {in_a_row} files had no answer for reasons that are not theirs, and "
                    f"the {len(files) - place - 1} behind them were not asked for. Look at the "
                    f"aggregator's log, and begin again at {first}."
                ) from error
        else:
            in_a_row = 0
            _show({"file": file.name, **answer}, as_json)

    if failed and len(files) > 1:
        print(f"error: {failed} of {len(files)} files have no answer; see above.", file=sys.stderr)

    return code


def _answer(client, file: GivenFile, bundle) -> dict:
    """Of one file. Raises the EdvitError that says why there is none."""
    from edvit_tf.aggregate.client import predict_encoded, predict_windows

    if file.trouble is not None:
        raise file.trouble
    if file.text is not None:
        # bytes of the command line that are no UTF-8 are refused as those of a file are
        return predict_encoded(client, file.text.encode("utf-8", "surrogateescape"))
    if bundle is None:
        return predict_encoded(client, read(file, MOST_FILE_BYTES))
    return predict_windows(client, file.path, bundle)


def _check_predict(args) -> None:
    """Raises ConfigError for options that do not go together, and ends where --server has neither
    --identity nor --insecure.
    """
    from edvit_tf.errors import ConfigError

    if args.server is None and (args.identity or args.insecure):
        raise ConfigError("--identity and --insecure go with --server HOST:PORT; give that too.")
    if args.server is not None and not (args.identity or args.insecure):
        args.wrong_usage("--server takes one of --identity FOLDER and --insecure")

    if bool(args.files) == bool(args.stream):
        raise ConfigError("give files or folders, or --stream for standard input: one of the two.")

    if args.hop and args.stream != "pcm":
        raise ConfigError("--hop goes with --stream pcm; recordings in files are cut side by side.")

    if args.stream == "pcm" and args.bundle is None:
        raise ConfigError(
            "--stream pcm needs --bundle FOLDER: its windows and its mel filter bank make the "
            "inputs here."
        )


def _sound(bundle, hop_seconds: float | None) -> tuple:
    """How a stream of sound is cut for a bundle: its rule, and samples from window to window.
    Raises ConfigError.
    """
    from edvit_tf.aggregate.framing import hop_samples
    from edvit_tf.device.model.bundle_input import bundle_input

    rule = bundle_input(bundle)
    return rule, hop_samples(rule.spec, hop_seconds)


def _ask_stream(client, sound: tuple | None, as_json: bool) -> None:
    """Shows the answers to standard input; what has none is told on standard error, and the stream
    goes on.
    """
    from edvit_tf.aggregate.live import LiveStream

    for answer in LiveStream(client).answers(_inputs(client, sound)):
        if isinstance(answer, str):
            print(printable(answer), file=sys.stderr, flush=True)
        else:
            _show(answer, as_json)


def _inputs(client, sound: tuple | None) -> Iterator[tuple[dict, Any]]:
    """(what is said of it, input) of each frame of standard input, or of each window of sound."""
    from edvit_tf.aggregate.framing import frames, pcm_windows

    if sound is None:
        for place, frame in enumerate(frames(sys.stdin.buffer, client)):
            yield {"file": f"frame {place}", "windows": 1}, frame
        return

    rule, hop = sound
    for start, samples in pcm_windows(sys.stdin.buffer, rule.spec.window_samples, hop):
        seconds = start / rule.spec.sample_rate_hz
        fields = {"file": f"{seconds:.3f} s", "start_seconds": seconds, "windows": 1}
        yield fields, rule.spec.from_samples(samples, rule.files)


def _show(answer: dict, as_json: bool) -> None:
    """One line: what was seen, what was missing, and the milliseconds of each device."""
    if as_json:
        plain = {**answer, "probabilities": [float(p) for p in answer["probabilities"]]}
        print(json.dumps(finite_json(plain)), flush=True)
        return

    # "NAME.device" says who answered for a sub-model, "NAME.compute_ms" how long it took. All of it
    # is another machine's words.
    said = answer["parameters"]
    devices = []
    for key, device in sorted(said.items()):
        name, dot, kind = key.rpartition(".")
        if dot and kind == "device":
            devices.append(f"{name} {device} {said.get(f'{name}.compute_ms', 0.0):.1f} ms")

    label = printable(answer["label"], _WORDS)
    told = printable(", ".join(devices), _WORDS)
    missing = printable(str(said["missing"]), _WORDS)
    degraded = f"  DEGRADED, without {missing}" if said["degraded"] else ""
    if "expected_accuracy" in said:
        degraded += f" (then {100 * said['expected_accuracy']:.1f} % of the test data are right)"
    print(
        f"{printable(answer['file'])}: {label} {answer['probability']:.3f}{degraded}  "
        f"[{said['total_ms']:.1f} ms; {told}]",
        flush=True,
    )

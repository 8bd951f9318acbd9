"""`edvit serve`, `edvit predict`, `edvit push`: the aggregator of a fleet, its client, bundles for
its devices.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from edvit_tf.device.__main__ import positive as positive_number
from edvit_tf.device.rpc.process_limits import ends_without_memory, prepare_server


def add_fleet(commands) -> None:
    """Adds `serve`, `predict` and `push` to the subparsers of `edvit`."""
    _add_serve(commands)
    _add_predict(commands)
    _add_push(commands)


def _add_serve(commands) -> None:
    serve = commands.add_parser(
        "serve", help="the aggregator: asks the devices, fuses, answers clients"
    )
    serve.add_argument("bundle", type=Path)
    serve.add_argument(
        "--devices",
        required=True,
        help="HOST:PORT,HOST:PORT,... or a devices.toml with host and port",
    )

    serve.add_argument("--listen", required=True, metavar="HOST:PORT")
    _add_identity(serve, "no TLS, to clients and devices; on loopback addresses only")
    serve.add_argument(
        "--insecure-anywhere", action="store_true", help="with --insecure: on any address"
    )

    serve.add_argument(
        "--min-submodels",
        type=int,
        metavar="N",
        help="with fewer a request is UNAVAILABLE, with N or "
        "more it is answered, and flagged where some are missing (default: all)",
    )
    serve.add_argument(
        "--deadline-ms",
        type=positive_number,
        default=1000.0,
        help="of requests that bring none, and the most that one gets (default 1000)",
    )
    serve.add_argument(
        "--metrics", metavar="HOST:PORT", help="Prometheus metrics and /healthz, plain HTTP"
    )

    serve.set_defaults(run=_serve)


def _add_predict(commands) -> None:
    predict = commands.add_parser(
        "predict", help="ask an aggregator for files, folders, or a stream of frames"
    )
    predict.add_argument(
        "files", type=Path, nargs="*", metavar="FILE", help="pictures, recordings, folders of them"
    )

    predict.add_argument("--server", required=True, metavar="HOST:PORT")
    _add_identity(predict, "no TLS")

    predict.add_argument(
        "--bundle",
        type=Path,
        help="cut recordings into its windows here; without it files are sent "
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

    predict.set_defaults(run=_predict)


def _add_push(commands) -> None:
    push = commands.add_parser(
        "push", help="copy a bundle to a device (rsync over ssh) and install it there"
    )
    push.add_argument("bundle", type=Path)
    push.add_argument("device", metavar="[USER@]HOST:STORE", help="e.g. pi-0.local:/opt/gtzan")
    push.add_argument(
        "--submodel", type=int, action="append", help="only this sub-model (may be given again)"
    )
    push.add_argument(
        "--sudo", action="store_true", help="install with sudo, for a store that belongs to root"
    )
    push.add_argument(
        "--python",
        default="/opt/edvit/bin/python",
        help="of the device (default /opt/edvit/bin/python)",
    )

    push.set_defaults(run=_push)


def _add_identity(parser: argparse.ArgumentParser, insecure: str) -> None:
    # One of the two has to be said: no connection lacks TLS because an option was forgotten.
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--identity", type=Path, metavar="FOLDER", help="of `edvit certs issue`")
    group.add_argument("--insecure", action="store_true", help=insecure)


def _serve(args) -> int:
    with ends_without_memory():
        return _served(args)


def _served(args) -> int:
    prepare_server()  # before anything is loaded
    from edvit_tf.aggregate.server import AggregatorOptions, serve
    from edvit_tf.errors import ConfigError

    if args.insecure_anywhere and not args.insecure:
        raise ConfigError(
            "--insecure-anywhere is the second word after --insecure; give both, or --identity."
        )

    return serve(
        AggregatorOptions(
            bundle=args.bundle,
            devices=args.devices,
            listen=args.listen,
            identity=args.identity,
            insecure_anywhere=args.insecure_anywhere,
            min_submodels=args.min_submodels,
            deadline_ms=args.deadline_ms,
            metrics=args.metrics,
        )
    )


def _push(args) -> int:
    from edvit_tf.operate.push import push

    return push(args.bundle, args.device, args.submodel, python=args.python, sudo=args.sudo)


def _predict(args) -> int:
    # Before grpc is imported, which reads it once.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

    from edvit_tf.aggregate.client import Client, predict_file
    from edvit_tf.device.model.bundle import open_bundle
    from edvit_tf.device.rpc import tls

    _check_predict(args)

    files = _files(args.files)
    bundle = None if args.bundle is None else open_bundle(args.bundle)
    sound = _sound(bundle, args.hop) if args.stream == "pcm" else None
    own = None if args.insecure else tls.identity(args.identity)

    client = Client(args.server, own, args.timeout_ms / 1e3)
    try:
        # Windows are cut here by its rule, so it has to be the bundle that is served.
        if bundle is not None:
            client.check_bundle(bundle)
        if files:
            answers = (predict_file(client, file, bundle) for file in files)
        else:
            answers = _streamed(client, sound)
        for answer in answers:
            _show(answer, args.json)
    finally:
        client.close()
    return 0


def _check_predict(args) -> None:
    """Raises ConfigError for options that do not go together."""
    from edvit_tf.errors import ConfigError

    if bool(args.files) == bool(args.stream):
        raise ConfigError("give files or folders, or --stream for standard input: one of the two.")

    if args.hop and args.stream != "pcm":
        raise ConfigError("--hop goes with --stream pcm; recordings in files are cut side by side.")

    if args.stream == "pcm" and args.bundle is None:
        raise ConfigError(
            "--stream pcm needs --bundle FOLDER: its windows and its mel filter bank make the "
            "inputs here."
        )


def _files(paths: list[Path]) -> list[Path]:
    """Files as they are given, and in the place of a folder all files in it, sorted."""
    files = []
    for path in paths:
        if path.is_dir():
            files += sorted(inner for inner in path.rglob("*") if inner.is_file())
        else:
            files.append(path)

    return files


def _sound(bundle, hop_seconds: float | None) -> tuple:
    """How a stream of sound is cut for a bundle: its rule, and samples from window to window.
    Raises ConfigError.
    """
    from edvit_tf.aggregate.framing import hop_samples
    from edvit_tf.device.model.bundle_input import bundle_input

    rule = bundle_input(bundle)
    return rule, hop_samples(rule.spec, hop_seconds)


def _streamed(client, sound: tuple | None) -> Iterator[dict]:
    """An answer for each frame of standard input, or for each window of sound."""
    from edvit_tf.aggregate.framing import frames, pcm_windows

    if sound is None:
        for place, frame in enumerate(frames(sys.stdin.buffer, client)):
            yield {"file": f"frame {place}", "windows": 1, **client.ask(frame)}
        return

    rule, hop = sound
    for start, samples in pcm_windows(sys.stdin.buffer, rule.spec.window_samples, hop):
        seconds = start / rule.spec.sample_rate_hz
        yield {
            "file": f"{seconds:.3f} s",
            "start_seconds": seconds,
            "windows": 1,
            **client.ask(rule.spec.from_samples(samples, rule.files)),
        }


def _show(answer: dict, as_json: bool) -> None:
    """One line: what was seen, what was missing, and the milliseconds of each device."""
    if as_json:
        plain = {**answer, "probabilities": [float(p) for p in answer["probabilities"]]}
        print(json.dumps(plain), flush=True)
        return

    # "NAME.device" says who answered for a sub-model, "NAME.compute_ms" how long it took.
    said = answer["parameters"]
    devices = []
    for key, device in sorted(said.items()):
        name, dot, kind = key.rpartition(".")
        if dot and kind == "device":
            devices.append(f"{name} {device} {said[f'{name}.compute_ms']:.1f} ms")

    degraded = f"  DEGRADED, without {said['missing']}" if said["degraded"] else ""
    if "expected_accuracy" in said:
        degraded += f" (then {100 * said['expected_accuracy']:.1f} % of the test data are right)"
    print(
        f"{answer['file']}: {answer['label']} {answer['probability']:.3f}{degraded}  "
        f"[{said['total_ms']:.1f} ms; {', '.join(devices)}]",
        flush=True,
    )

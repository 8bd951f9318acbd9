"""`edvit bench engines`: the two interfaces of ai-edge-litert, and XNNPACK's weight cache."""

import tempfile
from pathlib import Path

import numpy as np

from edvit_tf.cli.output import add_json, show
from edvit_tf.cli.values import counts, natural, positive, user_path


def add_engines(benches) -> None:
    """Adds `bench engines`."""
    parser = benches.add_parser(
        "engines", help="CompiledModel beside the Interpreter; starts with a weight cache"
    )
    parser.add_argument(
        "bundle", type=user_path, nargs="?", help="a bundle; without it --model, random weights"
    )
    parser.add_argument("--submodel", type=natural, default=0, help="of the bundle (default 0)")
    parser.add_argument("--model", default="vit_small", help="preset (default vit_small)")
    parser.add_argument(
        "--image-size", type=positive, default=98, help="pixels a side, 3 channels (default 98)"
    )
    parser.add_argument("--patch-size", type=positive, default=14, help="default 14")
    parser.add_argument("--heads", type=positive, default=1, help="heads kept (default 1)")
    parser.add_argument(
        "--cut-heads",
        choices=("merge", "keep"),
        default="merge",
        help="widths of that cut (default merge)",
    )
    parser.add_argument("--threads", type=counts, default=(1, 2), help="default 1,2")
    parser.add_argument("--turns", type=positive, default=9, help="processes each (default 9)")
    parser.add_argument(
        "--runs", type=positive, default=100, help="inferences of each a turn (default 100)"
    )
    add_json(parser)
    parser.set_defaults(run=_bench_engines)


def _bench_engines(args) -> int:
    from edvit_tf.bench.engines import bench_engines, engines_text

    with tempfile.TemporaryDirectory(prefix="edvit-engines-") as name:
        made = _of_bundle(args) if args.bundle is not None else _made(args, Path(name))
        result = bench_engines(*made, args.threads, args.turns, args.runs)
    show(args, result, engines_text(result))
    return 0


def _of_bundle(args) -> tuple[Path, dict[str, np.ndarray]]:
    """The first file of a sub-model, and the bundle's golden input."""
    from edvit_tf.device.model.bundle import open_bundle, verified_path
    from edvit_tf.device.model.golden import expected_answers

    bundle = open_bundle(args.bundle)
    inputs, _ = expected_answers(bundle, args.submodel)
    return verified_path(bundle, bundle.entry(args.submodel).file), inputs


def _made(args, folder: Path) -> tuple[Path, dict[str, np.ndarray]]:
    """A portable file of a preset cut as the options say, with random weights, and a picture."""
    from edvit_tf.export.convert import convert
    from edvit_tf.models import architecture, preset
    from edvit_tf.models.vit.spread import spread_weights

    size = args.image_size
    config = preset(args.model, (size, size, 3), 10, patch_size=args.patch_size)
    config = config.pruned(args.heads, 10, args.cut_heads)
    weights = spread_weights(config, 1.5)

    file = folder / "model.tflite"
    graph, signature = architecture(config).graph(config, weights, "image", "uint8", "portable")
    convert(graph, signature, file, weights)
    picture = np.random.default_rng(0).integers(0, 256, (1, *config.image_shape), np.uint8)
    return file, {"image": picture}

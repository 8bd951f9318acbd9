"""`edvit bench paper` and `edvit bench nets`: what the paper compares, at its full size."""

import contextlib
import sys

from edvit_tf.cli.output import add_json, show
from edvit_tf.cli.values import base_source, counts, names, natural, positive, user_path
from edvit_tf.config import DataConfig, RunConfig
from edvit_tf.planning.devices import parse_size


def add_paper(benches) -> None:
    """Adds `paper` to the subparsers of `edvit bench`."""
    parser = benches.add_parser(
        "paper",
        help="the paper's experiment at full size on few pictures: bytes, MACs, latency, memory",
    )
    parser.add_argument(
        "--data-dir", type=user_path, required=True, help="pictures in the folders of CIFAR-10"
    )
    parser.add_argument("--out", type=user_path, required=True, help="folder of the bundle")
    parser.add_argument(
        "--base", type=base_source, help="checkpoint to start from (default: drawn weights)"
    )
    parser.add_argument("--model", default="vit_base", help="preset (default vit_base)")
    parser.add_argument(
        "--image-size", type=positive, default=224, help="pixels a side (default 224)"
    )
    parser.add_argument("--devices", type=positive, default=10, help="default 10")
    parser.add_argument("--budget", default="180MiB", help="of all files (default 180MiB)")
    parser.add_argument(
        "--max-per-class",
        type=positive,
        default=20,
        help="pictures of each class and split (default 20)",
    )
    parser.add_argument(
        "--samples", type=positive, default=8, help="that a cut is scored on (default 8)"
    )
    parser.add_argument("--batch", type=positive, default=16, help="of every fit (default 16)")
    add_json(parser)
    parser.set_defaults(run=_bench_paper)


def _bench_paper(args) -> int:
    from edvit_tf.bench.paper import bench_paper, paper_text
    from edvit_tf.data import load

    config = _paper_config(args)
    dataset = load(
        "cifar10", args.data_dir, image_size=config.data.image_size, **config.data.options
    )
    # what a run tells on its way is no part of the answer
    with contextlib.redirect_stdout(sys.stderr):
        result = bench_paper(config, dataset, args.out, args.base)
    show(args, result, paper_text(result))
    return 0


def _paper_config(args) -> RunConfig:
    """The paper's profile with one epoch a fit, of small batches."""
    from edvit_tf.cli.recipe import paper_profile

    size = (args.image_size, args.image_size)
    # a tenth of the training pictures, where those are fewer than 500
    options = {"max_per_class": args.max_per_class, "validation_count": 50}
    data = DataConfig("cifar10", size, options)
    profile = paper_profile(data, epochs=1)
    for name in ("base_training", "stage_training", "fusion_training"):
        profile[name] = profile[name].replace(batch_size=args.batch)
    changes = {
        "data": data.replace(image_size=size),  # the profile's is 224
        "model": args.model,
        "num_devices": args.devices,
        "budget_bytes": parse_size(args.budget),
        "calibration_samples": args.samples,
        "baselines": (),
    }
    return RunConfig(name="paper", **(profile | changes))


def add_nets(benches) -> None:
    """Adds `nets` to the subparsers of `edvit bench`."""
    parser = benches.add_parser(
        "nets", help="Split-CNN's and Split-SNN's nets at full size: bytes, MACs, milliseconds"
    )
    parser.add_argument(
        "--nets", type=names, default=("vgg16", "vgg9"), help="presets (default vgg16,vgg9)"
    )
    parser.add_argument(
        "--kept",
        type=counts,
        default=(50, 35, 25, 20, 10),
        help="percent of the filters that are kept (default 50,35,25,20,10)",
    )
    parser.add_argument(
        "--bytes",
        type=names,
        default=("2.45MiB", "9.4MiB"),
        help="of a device, for the most that it holds (default 2.45MiB,9.4MiB)",
    )
    parser.add_argument(
        "--runs", type=natural, default=40, help="timed runs a turn; 0: none (default 40)"
    )
    add_json(parser)
    parser.set_defaults(run=_bench_nets)


def _bench_nets(args) -> int:
    from edvit_tf.bench.nets import bench_nets, nets_text

    most = [parse_size(text) for text in args.bytes]
    rows = bench_nets(args.nets, args.kept, most, args.runs)
    show(args, rows, nets_text(rows))
    return 0

"""`python -m edvit_tf.study.fleet PACK --out FOLDER`: runs the experiments on a packed data set.

Needs torch, numpy and Pillow, and an accelerator to end the same day. Every result is written when
it is there; what was trained is in FOLDER as .npz files, one a member, named as our pipeline reads
weights.
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from edvit_tf.device.strict_json import finite_json
from edvit_tf.study.fleet.settings import AUGMENTS, TABLES, TITLES, VIEWS


def main(arguments: list[str] | None = None) -> int:
    """Runs what is asked for; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m edvit_tf.study.fleet", description=__doc__)
    parser.add_argument("pack", type=Path, metavar="PACK", help="folder of `edvit study fleet`")
    parser.add_argument("--out", type=Path, required=True, help="folder for results and weights")
    parser.add_argument("--kept", type=int, default=1, help="heads' share a member keeps (1)")
    parser.add_argument("--members", type=int, default=10, help="of a fleet, 2 to 10 (10)")
    parser.add_argument(
        "--table", choices=TABLES, default="few", help="of experiments, by classes (few)"
    )
    parser.add_argument("--only", nargs="*", metavar="NAME", help="of the experiments, by name")
    parser.add_argument("--epochs", type=float, help="in the place of each experiment's own")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument(
        "--augment", choices=AUGMENTS, default="shift_flip", help="of the training pictures"
    )
    parser.add_argument("--test", action="store_true", help="tell figures of the test split too")
    parser.add_argument("--threads", type=int, help="of a CPU (all of its cores)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    if not 2 <= args.members <= len(VIEWS):
        parser.error(f"--members is {args.members}; a fleet has 2 to {len(VIEWS)}, a view each")
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError:
        parser.error("these fits run in torch, which is not installed: pip install torch")
    return _run(args)


def _run(args: argparse.Namespace) -> int:
    """The experiments that were asked for, one after the other."""
    import torch

    from edvit_tf.study.fleet.experiments import row_of
    from edvit_tf.study.fleet.laboratory import Laboratory
    from edvit_tf.study.fleet.pack import read_pack

    if args.threads:
        torch.set_num_threads(args.threads)

    args.out.mkdir(parents=True, exist_ok=True)
    splits = ("train", "validation", "test") if args.test else ("train", "validation")
    laboratory = Laboratory(read_pack(args.pack), args.kept, args.seed, args.augment, splits)
    trained: dict = {}  # name of an experiment -> its stack
    results = []
    print(TITLES)
    for experiment in TABLES[args.table]:
        if args.only and experiment.name not in args.only:
            continue
        changes = {"batch_size": args.batch, "seed": args.seed, "augment": args.augment}
        if args.epochs is not None:
            changes["epochs"] = args.epochs
        experiment = dataclasses.replace(
            experiment,
            members=experiment.members or args.members,
            fit=dataclasses.replace(experiment.fit, **changes),
        )
        trained[experiment.name], result = laboratory.run(experiment, trained)
        results.append(result)
        print(row_of(result), flush=True)
        (args.out / "results.json").write_text(json.dumps(finite_json(results), indent=1), "utf-8")
        laboratory.save(trained[experiment.name], args.out / f"{len(results):02d}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

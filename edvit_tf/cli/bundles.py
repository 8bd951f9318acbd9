"""`edvit evaluate`, `edvit audit`, `edvit report`: what a finished bundle is asked."""

from edvit_tf.cli.output import add_json, show
from edvit_tf.cli.values import indices, user_path
from edvit_tf.data.names import named


def add_bundles(commands) -> None:
    """Adds `evaluate`, `audit` and `report` to the subparsers of `edvit`."""
    evaluate = commands.add_parser("evaluate", help="accuracy, measured on the .tflite files")
    evaluate.add_argument("bundle", type=user_path)
    evaluate.add_argument(
        "--data-dir", type=user_path, help="folder of the data set that the bundle was made from"
    )
    evaluate.add_argument("--split", choices=("test", "validation", "train", "all"), default="test")
    evaluate.add_argument(
        "--missing", type=indices, default=(), help="sub-models to leave out, e.g. 0,3"
    )

    add_json(evaluate)
    evaluate.set_defaults(run=_evaluate)

    audit = commands.add_parser(
        "audit", help="Keras summaries; params, MACs and bytes reconciled with the files"
    )
    audit.add_argument("bundle", type=user_path)

    add_json(audit)
    audit.set_defaults(run=_audit)

    report = commands.add_parser("report", help="report.html again from what the bundle stores")
    report.add_argument("bundle", type=user_path)
    report.add_argument(
        "--data-dir",
        type=user_path,
        help="the data set that the bundle was made from: its wrong answers are stored anew, for a "
        "bundle of a version that did not",
    )
    report.set_defaults(run=_report)


def _evaluate(args) -> int:
    from edvit_tf.evaluation.evaluate import evaluate

    result = evaluate(args.bundle, args.data_dir, args.split, args.missing)
    show(args, result, _evaluation_text(result))
    return 0


def _evaluation_text(result: dict) -> str:
    """What `evaluate` measured, as text."""
    lines = []
    if result["data"]["synthetic"]:
        # First of all, so that nobody reads on without it.
        lines.append("SYNTHETIC stand-in: these accuracies mean nothing.")

    lost = f", without sub-models {result['missing']}" if result["missing"] else ""
    lines.append(
        f"{result['bundle']} on {named(result['data'])}, "
        f"{result['split']} split{lost}, measured on the .tflite files:"
    )

    if result["note"]:
        lines.append(f"  note: {result['note']}")

    for name, key in (("fused", "accuracy"), ("softmax average", "average")):
        share = result[key]
        lines.append(
            f"  {name:<16}{share['recording'] * 100:>7.2f} % of {share['recordings']} recordings, "
            f"{share['window'] * 100:>7.2f} % of {share['windows']} windows"
        )

    for index, process in enumerate(result["processes"]):
        lines.append(
            f"  submodel-{index:02d}: {process['runtime']}, {process['threads']} thread, median "
            f"{process['invoke_ms']['median']:.2f} ms, p95 {process['invoke_ms']['p95']:.2f} ms, "
            f"peak RSS {process['peak_rss_bytes'] / 2**20:.0f} MiB, no TensorFlow in the process"
        )

    return "\n".join(lines)


def _audit(args) -> int:
    from edvit_tf.report.audit import audit, text

    result = audit(args.bundle)
    show(args, result, text(result))

    # 1 as `diff` has it: the command did its work, and the answer is no.
    return 0 if result["reconciled"] else 1


def _report(args) -> int:
    from edvit_tf.report.page import write_report

    if args.data_dir is not None:
        from edvit_tf.evaluation.mistakes import add_mistakes

        add_mistakes(args.bundle, args.data_dir)
    print(write_report(args.bundle))
    return 0

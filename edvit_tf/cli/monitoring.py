"""`edvit monitoring`: prints what Prometheus and Grafana need to watch a fleet."""

import argparse
import re

from edvit_tf.cli.values import share, user_path
from edvit_tf.device.__main__ import positive as positive_number


def add_monitoring(commands) -> None:
    """Adds `monitoring` to the subparsers of `edvit`."""
    parser = commands.add_parser(
        "monitoring", help="print alert rules, a dashboard, a scrape configuration of a fleet"
    )
    inner = parser.add_subparsers(required=True, metavar="WHAT")
    _add_rules(inner)
    dashboard = inner.add_parser("dashboard", help="JSON for Grafana: Dashboards, New, Import")
    dashboard.set_defaults(run=_dashboard)
    _add_scrape(inner)


def _add_rules(commands) -> None:
    rules = commands.add_parser("rules", help="alert rules for Prometheus")
    rules.add_argument(
        "--for",
        dest="lasts",
        type=duration,
        default="1m",
        metavar="DURATION",
        help="how long something must hold before it is an alert (default 1m)",
    )
    rules.add_argument(
        "--p95-ms",
        type=positive_number,
        default=500.0,
        metavar="MS",
        help="slow: one answer in twenty takes longer (default 500)",
    )
    rules.add_argument(
        "--degraded",
        type=share,
        default=0.05,
        metavar="SHARE",
        help="of the answers that lack a sub-model, and of the requests without an answer "
        "(default 0.05)",
    )
    rules.add_argument(
        "--hot-c",
        type=positive_number,
        default=80.0,
        metavar="DEGREES",
        help="a device is hot from here on (default 80, where a Pi lowers its clock)",
    )
    rules.set_defaults(run=_rules)


def _add_scrape(commands) -> None:
    scrape = commands.add_parser("scrape", help="a configuration of Prometheus for a fleet")
    scrape.add_argument("hub", metavar="HOST:PORT", help="--metrics of the aggregator")
    scrape.add_argument(
        "--devices",
        metavar="DEVICES",
        help="as of `edvit serve`: the workers' own pages too, a thousand above their ports",
    )
    scrape.add_argument(
        "--identity",
        type=user_path,
        metavar="FOLDER",
        help="of an aggregator with --https: Prometheus reads its ca.pem",
    )
    scrape.set_defaults(run=_scrape)


def duration(text: str) -> str:
    """A time as Prometheus writes it: 30s, 1m, 1h30m."""
    if not re.fullmatch(r"0s|([1-9][0-9]{0,5}(h|m|s|ms))+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no duration of Prometheus, e.g. 30s or 5m")
    return text


def _rules(args) -> int:
    from edvit_tf.operate.monitoring.rules import Limits, rules_text

    print(rules_text(Limits(args.lasts, args.p95_ms, args.degraded, args.hot_c)), end="")
    return 0


def _dashboard(args) -> int:
    from edvit_tf.operate.monitoring.dashboard import dashboard_text

    print(dashboard_text(), end="")
    return 0


def _scrape(args) -> int:
    from edvit_tf.operate.monitoring.scrape import scrape_text

    print(scrape_text(args.hub, args.devices, args.identity), end="")
    return 0

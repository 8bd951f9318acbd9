"""The spans of one request, as text: `python -m tests.one_trace BUNDLE`. A worker for each
sub-model, an aggregator and a collector run on this machine; the second of two requests is shown.
"""

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from edvit_tf.aggregate.client import Client
from edvit_tf.bench.load.target import made_input
from edvit_tf.device.model.bundle import open_bundle
from tests.support.aggregator_process import aggregator, all_ready
from tests.support.collector import collector, tree
from tests.support.fleet_process import places
from tests.support.worker_process import wait_for


def one_trace(bundle: Path) -> str:
    count = len(open_bundle(bundle).sub_models)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edvit-trace-")))
        there = stack.enter_context(collector())
        devices = stack.enter_context(places(bundle, folder, [[j] for j in range(count)]))
        addresses = [place.address for place in devices]
        often = {"OTEL_BSP_SCHEDULE_DELAY": "100"}
        options = ["--traces", there.url]
        hub = stack.enter_context(aggregator(bundle, folder, addresses, *options, **often))
        wait_for(lambda: all_ready(hub, count), 120)
        client = Client(hub.address, None, 10.0)
        stack.callback(client.close)
        for _ in range(2):
            client.ask(made_input(client, 0))

        def last():
            roots = [span for span in there.spans if span.name == "request"]
            return there.of(roots[1].trace_id.hex()) if len(roots) == 2 else None

        return tree(wait_for(last, 60), with_times=True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    print(one_trace(parser.parse_args(argv).bundle))
    return 0


if __name__ == "__main__":
    sys.exit(main())

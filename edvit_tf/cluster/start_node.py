"""`ray start`, with the patience that a loaded machine needs: python -m edvit_tf.cluster.start_node
OPTIONS...

Ray asks for its own node for 30 seconds, which it has no setting for, and gives up; a machine with
other work may take longer than that to load the Python of its agents.
"""

import functools
import sys
import time
from collections.abc import Callable

PATIENCE_SECONDS = 300.0


def patient(ask: Callable) -> Callable:
    """`ask`, again and again while it raises RuntimeError, as Ray's does of a node that is not
    there yet.
    """

    @functools.wraps(ask)
    def asked(*arguments, **options):
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return ask(*arguments, **options)
            except RuntimeError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)

    return asked


def main() -> None:
    from ray._private import services
    from ray.scripts.scripts import cli

    # where another version of Ray has no such function, its own 30 seconds hold
    if hasattr(services, "get_node"):
        services.get_node = patient(services.get_node)
    cli(["start", *sys.argv[1:]])


if __name__ == "__main__":
    main()

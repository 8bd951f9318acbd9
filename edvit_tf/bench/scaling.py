"""A recipe on Ray clusters of one, two and more nodes of this machine, each of one CPU: seconds of
the part that is parallel, and whether the files are the same; and once more with a node killed in
the middle of a fit.

Every run is the recipe's own command, and takes inputs, base and the base's answers of a first one,
which fits without Ray by one thread. The parallel part is from the first stage of a member that is
begun to the last that has ended, on the run's own clock.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from edvit_tf.cluster.nodes import Node, Nodes
from edvit_tf.device.model.bundle import sha256
from edvit_tf.errors import ConfigError, OutputError

ONE_THREAD = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}


@dataclass(frozen=True)
class Row:
    """One run: nodes (0: without Ray), seconds of the parallel part, and what its files are."""

    nodes: int
    killed: str | None  # the stage whose node was killed
    seconds: float
    stages: int
    same_files: bool  # as those of the run without Ray
    load: float  # processes that want the machine, mean of the last minute, at the end


def bench_scaling(
    recipe: Path, counts: Sequence[int], options: Sequence[str], kill: bool
) -> list[Row]:
    """A row for the run without Ray, one for each number of nodes, and with `kill` one for the last
    number with a node killed, for which there are two at the least: the first one is the run's own.
    Raises ConfigError for fewer; OutputError when a run fails, or no node was killed.
    """
    if kill and counts[-1] < 2:
        raise ConfigError(
            f"--kill with --nodes ending in {counts[-1]}: the first node is the run's own and is "
            "not killed. Give two or more as the last number, as in --nodes 1,2,3."
        )
    with tempfile.TemporaryDirectory(prefix="edvit-scaling-") as folder:
        place = Path(folder)
        first = place / "without"
        command = [sys.executable, str(recipe), *options, "--json"]
        found, _ = _run([*command, "--out", str(first)], ONE_THREAD, ())
        shas = _shas(first)
        rows = [_row(0, None, found, True)]

        for count, is_killed in [(one, False) for one in counts] + [(counts[-1], True)] * kill:
            out = place / f"{count}-{is_killed}"
            own = [*command, "--reuse", f"{first}.work", "--out", str(out)]
            with Nodes(count, _free_port()) as nodes:
                victims = nodes.nodes[1:] if is_killed else ()
                asked = [*own, "--ray", nodes.address]
                found, killed = _run(asked, ONE_THREAD, victims)
            if is_killed and killed is None:
                raise OutputError(
                    f"{recipe}: no node but the first one had a fit, so none was killed. Give the "
                    "recipe more members than one node takes at once: -- --devices 3."
                )
            rows.append(_row(count, killed, found, _shas(out) == shas))
    return rows


def scaling_text(rows: Sequence[Row]) -> str:
    """The table for a terminal."""
    one = next((row.seconds for row in rows if row.nodes == 1), None)
    lines = [
        f"{'nodes':8}{'node killed in':24}{'seconds':>9}{'speed-up':>10}{'files':>8}{'load':>7}"
    ]
    for row in rows:
        nodes = str(row.nodes) if row.nodes else "no Ray"
        speed_up = f"{one / row.seconds:.2f}" if one and row.nodes else "-"
        files = "same" if row.same_files else "OTHER"
        lines.append(
            f"{nodes:8}{row.killed or '-':24}{row.seconds:9.1f}{speed_up:>10}{files:>8}"
            f"{row.load:7.1f}"
        )
    return "\n".join(
        [
            *lines,
            "",
            f"Seconds of the parallel part: {rows[0].stages} stages of members, one thread a fit.",
            f"Nodes of one CPU, all on this machine of {os.cpu_count()} cores; speed-up against "
            "one.",
        ]
    )


def rows_told(rows: Sequence[Row]) -> list[dict]:
    """The same as plain JSON."""
    return [asdict(row) for row in rows]


def _run(
    command: Sequence[str], environment: dict[str, str], victims: Sequence[Node]
) -> tuple[list[dict], str | None]:
    """Events of a run, and the stage whose node was killed: the first of `victims` that has a fit
    is killed just then.
    """
    print(" ".join(command[1:]), file=sys.stderr, flush=True)
    events: list[dict] = []
    killed = None
    with subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ) as run:
        for line in run.stdout:
            events.append(json.loads(line))
            if killed is None and events[-1]["event"] == "fit":
                killed = _kill_its_node(events[-1], victims)
    if run.returncode:
        said = events[-1]["text"] if events else "(it said nothing)"
        raise OutputError(f"{' '.join(command[1:])} ended with {run.returncode}: {said}")
    return events, killed


def _kill_its_node(event: dict, victims: Sequence[Node]) -> str | None:
    for node in victims:
        if event.get("process") in node.processes():
            node.kill()
            return event["title"]
    return None


def _row(nodes: int, killed: str | None, events: Sequence[dict], same_files: bool) -> Row:
    # stages of members are NAME.STEP
    of_members = [event for event in events if "." in event.get("name", "")]
    ended = [one["at"] for one in of_members if one["event"] == "stage-end"]
    begun = [one["at"] for one in of_members if one["event"] == "stage"]
    load = os.getloadavg()[0]
    return Row(nodes, killed, max(ended) - min(begun), len(ended), same_files, load)


def _shas(bundle: Path) -> dict[str, str]:
    return {path.name: sha256(path) for path in sorted(bundle.glob("*.tflite"))}


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]

"""Updates of a device's bundle: the new version beside the old one, tried out first, switched to in
one step.

    python -m edvit_tf.device.update STORE install FOLDER [--submodel 0 ...]
        verify, copy, try out, make it current
    python -m edvit_tf.device.update STORE rollback [VERSION]
        back to the previous version, or to one that is there
    python -m edvit_tf.device.update STORE list [--json]
        the versions, which is current and which previous
    python -m edvit_tf.device.update STORE prune
        delete all but the current and the previous version
    python -m edvit_tf.device.update STORE trust [signer.pem ...]
        from now on only bundles signed by one of these keys; without any: all bundles

STORE is a folder of this device, for instance /opt/gtzan. A worker (or an aggregator) is given
STORE/current, and serves a new version after its next restart. FOLDER is a bundle that rsync or scp
brought here. Copied is what this device runs: with --submodel the files of these sub-models alone,
else those of all and the fusion. At install and at rollback the models are tried on the bundle's
golden input, in child processes (of root's, as the user nobody), before the version becomes
current. Killed or without power at any
moment, the store has the old version current or the new one, and the next command that changes it
deletes what was half done.

What was current still is after all exit codes but 0; after 21 and 130 see `list`.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from edvit_tf.device.errors import (
    BundleError,
    DeviceError,
    DeviceExit,
    StoreError,
    exit_codes_text,
)
from edvit_tf.device.model.bundle import Bundle, open_bundle, verified_path
from edvit_tf.device.model.bundle_input import bundle_input
from edvit_tf.device.terminal import add_version, flushed, print_anything, reader_left, say_error
from edvit_tf.device.update.signature import checked_signature, trust
from edvit_tf.device.update.store import (
    LINKS,
    changing,
    copied,
    holding,
    keep,
    linked,
    point,
    remove,
    versions,
)
from edvit_tf.device.update.trial import needed_files, try_out

_RESULTS = "results.json"


def install(store: Path, source: str | Path, sub_models: Sequence[int] | None = None) -> dict:
    """Makes the bundle at `source` the store's current version, and the current one the previous.

    A version that is there, whole and unchanged, is not copied again, but tried all the same.
    Returns {"version", "was" (a name or None), "copied"}. Raises BundleError, RuntimeMissing,
    MemoryShort, ModelFailed, WrongAnswers, SignatureError, StoreError, DiskError; what was current
    then stays so.
    """
    bundle = open_bundle(source)
    signature = checked_signature(store, bundle)
    files = needed_files(bundle, sub_models)
    # before the store is touched: a spoilt bundle changes nothing
    for name in files:
        verified_path(bundle, name)
    # a worker prepares a request's file by it
    bundle_input(bundle)

    with changing(store, make=True) as partial:
        current = linked(store, "current")
        version = holding(store, bundle.digest, files, signature)
        is_new = version is None
        if version is None:
            # all in the folder for what is temporary: a version has its name last
            copy = copied(partial, bundle, files, signature)
            try_out(copy, partial)
            version = keep(store, copy)
        else:
            try_out(open_bundle(version), partial)

        if current is None or not current.is_dir():
            point(store, partial, current=version)
        elif current != version:
            # In this order: if the power goes between the two, the command is given again and
            # goes on.
            point(store, partial, previous=current, current=version)

    return {"version": version.name, "was": current and current.name, "copied": is_new}


def rollback(store: Path, name: str | None = None) -> dict:
    """Makes the previous version current, or the one of this name, after it was verified and tried.
    The one that was current becomes the previous, so that a second rollback undoes the first.
    Returns and raises as `install`.
    """
    with changing(store) as partial:
        current = linked(store, "current")
        there = {version.name: version for version in versions(store)}
        wanted = linked(store, "previous") if name is None else there.get(name)
        if wanted is None or wanted == current:
            missed = "previous version" if name is None else f"other version {name}"
            raise StoreError(
                f"{store} has no {missed}; current is {current and current.name}, there are: "
                f"{', '.join(there) or 'none'}. Name one of these, or install one."
            )

        bundle = open_bundle(wanted)
        checked_signature(store, bundle)
        # all that was installed of it, the labels and the input's files too
        for file in bundle.files:
            if os.path.lexists(bundle.path / file):
                verified_path(bundle, file)
        bundle_input(bundle)
        try_out(bundle, partial)

        # In this order: if the power goes between the two, the wish is fulfilled and need not be
        # repeated.
        if current is None:
            point(store, partial, current=wanted)
        else:
            point(store, partial, current=wanted, previous=current)

    return {"version": wanted.name, "was": current and current.name, "copied": False}


def prune(store: Path) -> list[str]:
    """Deletes all versions but the current and the previous; returns their names. A worker that
    still serves one of them goes on, for it has read its files. Raises StoreError, DiskError.
    """
    with changing(store) as partial:
        # what a link leads to stays, damaged or not
        kept = {linked(store, link) for link in LINKS}
        gone = [version for version in versions(store) if version not in kept]
        for version in gone:
            remove(store, partial, version)

    return [version.name for version in gone]


def listing(store: Path) -> list[dict]:
    """A row a version: {"version", "links", "bytes", "name", "digest", "sub_models", "problem"};
    the last is None, or why it cannot be opened (files are not verified here). Raises StoreError.
    """
    # a version that cannot be opened is a row as well
    links = {link: linked(store, link) for link in LINKS}
    rows = []
    for version in versions(store):
        row = {
            "version": version.name,
            "links": [link for link in LINKS if links[link] == version],
            "bytes": sum(file.stat().st_size for file in version.iterdir()),
            "name": None,
            "digest": None,
            "sub_models": [],
            "problem": None,
        }
        try:
            bundle = open_bundle(version)
        except BundleError as error:
            row["problem"] = str(error)
        else:
            row["name"] = bundle.manifest.name
            row["digest"] = bundle.digest
            row["sub_models"] = _sub_models_there(bundle)

        rows.append(row)

    return rows


def _sub_models_there(bundle: Bundle) -> list[int]:
    """Indices of the sub-models of which a file, of any flavour, lies in the bundle's folder."""
    there = []
    for index, entry in enumerate(bundle.sub_models):
        files = [bundle.path / flavour.file for flavour in entry.flavours.values()]
        if any(file.is_file() for file in files):
            there.append(index)

    return there


def main(argv: list[str] | None = None) -> int:
    """Parses the arguments, runs what they ask for, returns the exit code."""
    print_anything()
    args = _parser().parse_args(argv)
    try:
        return flushed(_run(args))
    except DeviceError as error:
        say_error(error)
        return error.exit_code
    except BrokenPipeError:
        return reader_left()
    except KeyboardInterrupt:
        print("interrupted; what was current still is", file=sys.stderr)
        return DeviceExit.INTERRUPTED


def _run(args: argparse.Namespace) -> int:
    if args.action == "list":
        rows = listing(args.store)
        print(json.dumps(rows, indent=1) if args.json else table(rows))
    elif args.action == "prune":
        gone = prune(args.store)
        print(f"deleted: {', '.join(gone) or 'nothing'}")
    elif args.action == "trust":
        print(_trust(args.store, args.key))
    elif args.action == "install":
        print(_said(args.store, install(args.store, args.folder, args.submodel), installed=True))
        if args.submodel is None:
            _say_what_was_left(args.folder)
    else:
        print(_said(args.store, rollback(args.store, args.version), installed=False))

    return DeviceExit.DONE


def _trust(store: Path, keys: Sequence[Path]) -> str:
    """Sets the keys that the store trusts; what that means, in a sentence."""
    with changing(store, make=True) as partial:
        count = trust(store, partial, keys)
    if not count:
        return f"{store} installs all bundles, signed or not"
    return f"{store} installs and goes back to bundles alone that one of {count} keys has signed"


def _said(store: Path, done: dict, installed: bool) -> str:
    """What `install` or `rollback` did, in a sentence or two."""
    version, was = done["version"], done["was"]
    if version == was:
        return f"{version} is current already; it was verified and tried again"
    there = " It was there already, and not copied." if installed and not done["copied"] else ""
    return (
        f"{version} is current (before: {was or 'none'}).{there} Restart what serves "
        f"{store}/current."
    )


def _say_what_was_left(folder: Path) -> None:
    """An aggregator would read the results, which the manifests of older bundles do not list."""
    if os.path.lexists(folder / _RESULTS) and _RESULTS not in open_bundle(folder).files:
        print(
            f"{_RESULTS} was left out, for the manifest has no sha256 of it (bundles exported from "
            "now on have)."
        )


def table(rows: list[dict]) -> str:
    """The rows of `listing` for a terminal."""
    lines = [f"{'version':<15}{'name':<20}{'sub-models':<16}{'MiB':>8}  "]
    for row in rows:
        name = row["name"] or "-"
        sub_models = ",".join(map(str, row["sub_models"])) or "-"
        said = row["problem"] or " and ".join(row["links"])
        line = f"{row['version']:<15}{name:<20}{sub_models:<16}{row['bytes'] / 2**20:>8.2f}  {said}"
        lines.append(line.rstrip())

    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m edvit_tf.device.update",
        description=__doc__,
        epilog=exit_codes_text(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_version(parser)
    parser.add_argument(
        "store", type=Path, help="folder of this device's versions; `install` makes it"
    )
    actions = parser.add_subparsers(dest="action", required=True)
    new = actions.add_parser("install", help="make a bundle the current version")
    new.add_argument("folder", type=Path, help="the bundle, as copied here")
    new.add_argument(
        "--submodel", type=int, action="append", help="only this sub-model (may be given again)"
    )
    back = actions.add_parser("rollback", help="back to the previous version")
    back.add_argument("version", nargs="?", help="to this version in its place; `list` shows them")
    shown = actions.add_parser("list", help="show the versions")
    shown.add_argument("--json", action="store_true", help="print JSON")
    actions.add_parser("prune", help="delete all versions but the current and the previous")
    trusted = actions.add_parser("trust", help="install only bundles that these keys have signed")
    trusted.add_argument("key", type=Path, nargs="*", help="signer.pem; none: all bundles again")

    return parser

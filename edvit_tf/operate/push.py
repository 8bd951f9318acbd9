"""Brings a bundle to a device over ssh, and installs it there: rsync, then `edvit_tf.device.update`
on the device.

What may be current is decided there alone: files are verified and tried before the switch, whatever
the way they came.
"""

import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from edvit_tf.device.model.bundle import Bundle, open_bundle, verified_path
from edvit_tf.device.update.signature import SIGNATURE
from edvit_tf.errors import ConfigError, PushFailed

_CANNOT_CONNECT = 255  # ssh's own code
_NOT_FOUND = 127  # a shell's


def push(
    path: Path,
    target: str,
    sub_models: Sequence[int] | None = None,
    *,
    python: str,
    sudo: bool = False,
) -> int:
    """Copies the files that a device needs to the folder edvit-push-<digest> of the user's home
    there, installs them in the store, and deletes the folder when that went well: a push that is
    given again sends what is missing.

    `target` is [USER@]HOST:STORE. Returns the code of `edvit_tf.device.update`, whose words went to
    the terminal; all but 0 left what was current there. Raises BundleError, ConfigError,
    PushFailed.
    """
    host, _, store = target.partition(":")
    if not host or host.startswith("-") or not store.startswith("/"):
        raise ConfigError(
            f"the device is {target!r}; it must be [USER@]HOST:STORE, the store with its whole "
            "path. Write for instance pi-0.local:/opt/gtzan."
        )

    bundle = open_bundle(path)
    names = needed_files(bundle, sub_models)

    # Named by the bundle, so that a push that broke off goes on with what is there.
    folder = f"edvit-push-{bundle.digest[:12]}"
    files = "".join(f"{name}\n" for name in names)

    copy = ["--archive", "--partial", "--files-from=-", f"{bundle.path}/", f"{host}:{folder}/"]
    _run("rsync", copy, host, files)

    update = ["sudo"] if sudo else []
    update += [python, "-m", "edvit_tf.device.update", store, "install", folder]
    # Without any the device installs all that the manifest lists.
    for index in sub_models or ():
        update += ["--submodel", str(index)]
    return _run("ssh", [host, f"{shlex.join(update)} && rm -r {folder}"], host)


def needed_files(bundle: Bundle, sub_models: Sequence[int] | None) -> list[str]:
    """Files of the bundle for a device, verified: of each sub-model all flavours, for only the
    device knows which it takes; without `sub_models` all files that the manifest lists.
    """
    if sub_models is None:
        listed = list(bundle.files)
    else:
        listed = ["golden.npz", *bundle.input_files]
        for index in sub_models:
            listed += [flavour.file for flavour in bundle.entry(index).flavours.values()]

    for name in listed:
        verified_path(bundle, name)

    # the manifest cannot list what is made of its own digest
    extra = [SIGNATURE] if (bundle.path / SIGNATURE).is_file() else []

    return ["manifest.json", *dict.fromkeys([*listed, *extra])]


def _run(program: str, arguments: list[str], host: str, given: str | None = None) -> int:
    """The exit code of a command that ran on the host; PushFailed where it did not."""
    if shutil.which(program) is None:
        package = "rsync" if program == "rsync" else "openssh-client"
        raise PushFailed(
            f"{program} is not installed here. Run: sudo apt-get install {package}; or copy the "
            "bundle by hand (docs/howto/updates.md)."
        )

    # ssh would otherwise read the standard input that is the user's own.
    done = subprocess.run(
        [program, *arguments],
        input=given,
        stdin=subprocess.DEVNULL if given is None else None,
        text=True,
        check=False,
    )

    code = done.returncode
    if program == "rsync" and code != 0:
        raise PushFailed(
            f"rsync to {host} ended with {code}, its words are above. Is rsync installed there, "
            f"can `ssh {host}` log in, is there room? What is current there stays so; the same "
            "command goes on."
        )

    if code == _CANNOT_CONNECT:
        raise PushFailed(
            f"ssh to {host} failed, its words are above. Try `ssh {host}`; then give the command "
            "again."
        )

    if code == _NOT_FOUND:
        raise PushFailed(
            f"a command is missing on {host}, the words above say which. Install edvit_tf there "
            "(docs/howto/one_pi.md), or say where its Python is: --python."
        )

    return code

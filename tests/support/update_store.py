"""For tests of updates: the command in this process, what a store then holds, damage."""

from edvit_tf.device.model.bundle import open_bundle, verified_path
from edvit_tf.device.update import commands as update
from edvit_tf.device.update.signature import SIGNATURE


def run(store, *arguments) -> int:
    """The command in this process, which loads no runtime: models are tried in child processes."""
    return update.main([str(store), *map(str, arguments)])


def digests(store) -> tuple:
    """Digests behind `current` and `previous`, None for no link; every file was verified."""
    return tuple(
        intact(store / link) if (store / link).is_symlink() else None
        for link in ("current", "previous")
    )


def intact(folder) -> str:
    bundle = open_bundle(folder)
    for file in folder.iterdir():
        # a manifest does not list itself, nor the signature of its digest
        if file.name not in ("manifest.json", SIGNATURE):
            verified_path(bundle, file.name)
    return bundle.digest


def changed_byte(bundle):
    content = bytearray((bundle / "submodel-00.tflite").read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / "submodel-00.tflite").write_bytes(content)

"""Signs bundles, so that devices can tell whose they are: `edvit certs signer` makes the key,
`edvit sign` uses it, and a device's store that trusts it (`... update STORE trust signer.pem`)
installs no others.

The key is Ed25519, and no certificate: what is signed is kept for years, and has no date.
"""

import contextlib
import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edvit_tf.device.model.bundle import open_bundle, verified_path
from edvit_tf.device.update.signature import SIGNATURE, signature_text, signed_text
from edvit_tf.errors import ConfigError, OutputError

KEY = "signer.key"
PUBLIC_KEY = "signer.pem"
_PEM = serialization.Encoding.PEM


def key_files() -> dict[str, bytes]:
    """A new key: the content of signer.key, which stays where bundles are made, and of signer.pem,
    which goes to the devices.
    """
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        _PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(_PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return {KEY: private, PUBLIC_KEY: public}


def sign(path: Path, key_file: Path, overwrite: bool = False) -> Path:
    """Writes signature.json into the bundle at `path`; returns its path.

    Every file that the manifest lists is verified first. The same signature again is no change; a
    different one there is replaced with `overwrite` alone. Raises BundleError, ConfigError for a
    file that holds no such key, OutputError.
    """
    bundle = open_bundle(path)
    for name in bundle.files:
        verified_path(bundle, name)

    text = signature_text(bundle.digest, _key(key_file).sign(signed_text(bundle.digest)))
    target = bundle.path / SIGNATURE
    if os.path.lexists(target) and not overwrite:
        if not target.is_symlink() and target.read_text("utf-8", "replace") == text:
            return target
        raise OutputError(
            f"{target} exists, by another key or of another state of the bundle. Pass --overwrite "
            "to replace it."
        )

    partial = target.with_name(f"{SIGNATURE}.partial")
    try:
        # left by one that was killed; or a link, which "x" would not follow either
        partial.unlink(missing_ok=True)
        with open(partial, "x", encoding="utf-8") as written:
            written.write(text)
        os.replace(partial, target)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise OutputError(f"{target} cannot be written ({error.strerror}).") from error
    return target


def _key(file: Path) -> Ed25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(file.read_bytes(), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(
            f"{file} holds no key to sign with ({error}). Make one: edvit certs signer FOLDER"
        ) from error

    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(
            f"{file} holds another kind of key; bundles are signed by Ed25519. Make one: edvit "
            "certs signer FOLDER"
        )
    return key

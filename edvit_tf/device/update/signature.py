"""Who made a bundle: its signature, and the keys that a store trusts.

    BUNDLE/signature.json      {"schema_version": 1, "digest": ..., "signature": base64}
    STORE/signers.pem          Ed25519 public keys, in PEM; without it all bundles are installed

Signed is the bundle's digest, which covers the manifest, and through its sha256 every file. The
check needs the package cryptography, which a device without signers.pem can do without.
"""

import base64
import binascii
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from edvit_tf.device.errors import BundleError, SignatureError, StoreError
from edvit_tf.device.model.bundle import Bundle
from edvit_tf.device.update.store import open_folder, open_plain, sync

SIGNATURE = "signature.json"
SIGNERS = "signers.pem"
_SCHEMA_VERSION = 1
_MAX_BYTES = 64 << 10  # of either file; a signature has 250 bytes, a key 113
_KEY = re.compile(rb"-----BEGIN PUBLIC KEY-----.+?-----END PUBLIC KEY-----\n?", re.S)


def signed_text(digest: str) -> bytes:
    """What is signed of a bundle with this digest: no signature is good for anything else."""
    return f"edvit_tf bundle, version 1\n{digest}\n".encode()


def signature_text(digest: str, signature: bytes) -> str:
    """The content of signature.json."""
    values = {
        "schema_version": _SCHEMA_VERSION,
        "digest": digest,
        "signature": base64.b64encode(signature).decode(),
    }
    return json.dumps(values, indent=1) + "\n"


def checked_signature(store: Path, bundle: Bundle) -> dict[str, bytes]:
    """signature.json of a bundle by its name, to be kept with the version; {} if it has none of its
    own.

    Raises SignatureError if the store trusts keys and none of them has signed this bundle.
    """
    keys = _trusted(store)
    content = _signature_bytes(bundle)
    if keys is None:
        # it may be asked for later; one that is not this bundle's is left behind
        return {SIGNATURE: content} if content and _signature(bundle, content) else {}

    if content is None:
        raise SignatureError(
            f"{bundle.path} has no {SIGNATURE}, and {store / SIGNERS} asks for one. Sign it where "
            "it was made (edvit sign), and bring it again."
        )

    signature = _signature(bundle, content)
    if signature is None or not any(_has_signed(key, bundle, signature) for key in keys):
        raise SignatureError(
            f"{bundle.path}/{SIGNATURE} is of none of the {len(keys)} keys of {store / SIGNERS}, "
            "or of another bundle. Do not use it if you do not know who made it; else sign it "
            "(edvit sign), or trust the key (trust)."
        )

    return {SIGNATURE: content}


def trust(store: Path, partial: Path, files: Sequence[Path]) -> int:
    """Lets a store trust the keys in these files, and no others; none: all bundles are installed.
    Returns how many there are. Raises SignatureError for a file that holds no such key.
    """
    target = store / SIGNERS
    if not files:
        target.unlink(missing_ok=True)
        sync(store)
        return 0

    keys = []
    for file in files:
        try:
            found = _KEY.findall(file.read_bytes())
        except OSError as error:
            raise SignatureError(f"{file} cannot be read ({error.strerror}).") from error

        if not found:
            raise SignatureError(
                f"{file} holds no public key in PEM. Give signer.pem of `edvit certs signer`."
            )
        for key in found:
            _loaded(key, file)
            keys.append(key.rstrip() + b"\n")

    new = partial / SIGNERS
    with open(new, "xb") as written:
        written.write(b"".join(keys))
        written.flush()
        os.fchmod(written.fileno(), 0o644)
        os.fsync(written.fileno())

    os.replace(new, target)
    sync(store)
    return len(keys)


def _trusted(store: Path) -> list | None:
    """The keys that a store trusts; None where it does not ask for a signature."""
    file = store / SIGNERS
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{file} cannot be read ({error.strerror}). Mend it (trust).") from error

    found = _KEY.findall(content)
    # an empty file is a damaged one, and no permission
    if not found:
        raise SignatureError(f"{file} holds no public key in PEM. Write it again (trust).")
    return [_loaded(key, file) for key in found]


def _loaded(pem: bytes, file: Path):
    """An Ed25519 public key."""
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError as error:
        raise SignatureError(
            f"{file} asks for signatures, and checking them needs the package cryptography "
            f"({error}). Run, in a clone of edvit_tf: pip install '.[device,signed]'."
        ) from error

    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SignatureError(f"{file} holds a damaged key ({error}). Write it again.") from error

    if not isinstance(key, Ed25519PublicKey):
        raise SignatureError(
            f"{file} holds a key that is not Ed25519. Give signer.pem of `edvit certs signer`."
        )
    return key


def _signature_bytes(bundle: Bundle) -> bytes | None:
    """What signature.json of a bundle holds, None without one; no link is followed."""
    if not os.path.lexists(bundle.path / SIGNATURE):
        return None

    folder = open_folder(bundle.path)
    try:
        with open_plain(folder, SIGNATURE, bundle.path) as file:
            content = file.read(_MAX_BYTES + 1)
    finally:
        os.close(folder)

    if len(content) > _MAX_BYTES:
        raise BundleError(f"{bundle.path}/{SIGNATURE} is no signature. Sign the bundle again.")
    return content


def _signature(bundle: Bundle, content: bytes) -> bytes | None:
    """The signature in signature.json; None where it is not one of this bundle."""
    try:
        values = json.loads(content)
        if values["schema_version"] != _SCHEMA_VERSION or values["digest"] != bundle.digest:
            return None
        return base64.b64decode(values["signature"], validate=True)
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error):
        return None


def _has_signed(key, bundle: Bundle, signature: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(signature, signed_text(bundle.digest))
    except InvalidSignature:
        return False
    return True

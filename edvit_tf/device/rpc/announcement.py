"""What a worker says of itself on the local network (DNS-SD, RFC 6763), for `edvit discover`.

It is said to all and proves nothing: anybody there can say the same. The certificate's fingerprint
is for people to compare.
"""

import hashlib
import ssl
from collections.abc import Iterable, Mapping

from edvit_tf.device.rpc import tls

SERVICE = "_edvit._tcp.local."
BUNDLE, SUBMODELS, FINGERPRINT = "bundle", "submodels", "sha256"
BUNDLE_DIGITS = 16  # of the digest
LABEL_DIGITS = 8  # hexadecimal, at a name's end: no two workers have one name
_MOST_CHARACTERS = 200  # of a value: a string of a TXT record has 255 bytes


def properties(digest: str, indices: Iterable[int], own: tls.Identity | None) -> Mapping[str, str]:
    """The TXT record of a worker."""
    said = {BUNDLE: digest[:BUNDLE_DIGITS], SUBMODELS: ranges(indices)}
    if own is not None:
        said[FINGERPRINT] = fingerprint(own)
    return said


def fingerprint(own: tls.Identity) -> str:
    """SHA-256 of the certificate that is presented, in hexadecimal."""
    text = own.pems[1].decode("ascii", "replace")
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    first = text[text.index(begin) : text.index(end) + len(end)]
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(first)).hexdigest()


def ranges(indices: Iterable[int]) -> str:
    """[0, 1, 2, 5] -> "0-2,5"; what is too long for a record is left out at its end."""
    runs: list[list[int]] = []
    for index in sorted(set(indices)):
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    parts = [f"{first}" if first == last else f"{first}-{last}" for first, last in runs]
    while len(",".join(parts)) > _MOST_CHARACTERS:
        parts.pop()
    return ",".join(parts)

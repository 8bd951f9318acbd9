"""Signed bundles: a store that trusts a key installs, and goes back to, those alone that it has
signed.
"""

import json
import os
import shutil
import sys

import pytest

from edvit_tf.device.model.bundle import open_bundle
from edvit_tf.device.update.signature import SIGNATURE, signature_text
from edvit_tf.errors import ConfigError, OutputError
from edvit_tf.operate import certs
from edvit_tf.operate.signing import sign
from tests.support.commands import rewrite_manifest, run_command
from tests.support.update_store import digests, run


@pytest.fixture
def signer(tmp_path):
    assert run_command(["certs", "signer", tmp_path / "signer"])[0] == 0
    return tmp_path / "signer"


@pytest.fixture
def other(bundles, tmp_path):
    """A copy of the second bundle, to be signed."""
    return shutil.copytree(bundles[1], tmp_path / "other")


def test_a_trusted_bundle_is_installed_and_gone_back_to(store, bundles, other, signer, capsys):
    first, second = (open_bundle(path).digest for path in bundles)
    assert run(store, "trust", signer / "signer.pem") == 0
    assert run(store, "install", other) == 25
    assert "has no signature.json" in capsys.readouterr().err
    assert digests(store)[0] == first

    code, out, _ = run_command(["sign", other, "--key", signer / "signer.key"])
    assert code == 0 and SIGNATURE in out
    assert run(store, "install", other) == 0
    assert (store / "current" / SIGNATURE).read_text() == (other / SIGNATURE).read_text()
    # the one that was there before the key was trusted is not gone back to
    assert run(store, "rollback") == 25
    assert digests(store) == (second, first)

    assert run(store, "trust") == 0
    assert run(store, "rollback") == 0
    assert digests(store) == (first, second)
    # and back to the signed one, now that it is asked for again
    assert run(store, "trust", signer / "signer.pem") == run(store, "rollback") == 0
    assert digests(store) == (second, first)


def test_a_version_without_its_signature_is_installed_again_with_it(store, other, signer):
    assert run(store, "install", other) == 0
    sign(other, signer / "signer.key")
    assert run(store, "trust", signer / "signer.pem") == run(store, "install", other) == 0
    assert (store / "current" / SIGNATURE).is_file()
    assert (store / "current").resolve().name.endswith("-2")


def another_key(bundle, signer):
    certs.make_signer(bundle.parent / "another")
    sign(bundle, bundle.parent / "another" / "signer.key")


def changed_afterwards(bundle, signer):
    sign(bundle, signer / "signer.key")
    rewrite_manifest(bundle, lambda m: m.update(seed=99))


def of_another_bundle(bundle, signer):
    """The text that was signed names the other bundle; the file says that it is this one's."""
    sign(bundle, signer / "signer.key")
    signed = json.loads((bundle / SIGNATURE).read_text())
    rewrite_manifest(bundle, lambda m: m.update(seed=99))
    signed["digest"] = open_bundle(bundle).digest
    (bundle / SIGNATURE).write_text(json.dumps(signed))


def no_signature(bundle, signer):
    (bundle / SIGNATURE).write_text(signature_text(open_bundle(bundle).digest, b"\0" * 64))


def too_short(bundle, signer):
    (bundle / SIGNATURE).write_text(signature_text(open_bundle(bundle).digest, b"\0" * 3))


def nonsense(bundle, signer):
    (bundle / SIGNATURE).write_bytes(b"\xff[[[")


def a_link(bundle, signer):
    sign(bundle, signer / "signer.key")
    (bundle / SIGNATURE).rename(bundle.parent / "elsewhere")
    (bundle / SIGNATURE).symlink_to(bundle.parent / "elsewhere")


def a_fifo(bundle, signer):
    os.mkfifo(bundle / SIGNATURE)


def very_large(bundle, signer):
    (bundle / SIGNATURE).write_bytes(b" " * (1 << 20))


@pytest.mark.parametrize(
    "forged, code",
    [
        (another_key, 25),
        (changed_afterwards, 25),
        (of_another_bundle, 25),
        (no_signature, 25),
        (too_short, 25),
        (nonsense, 25),
        (a_link, 7),
        (a_fifo, 7),
        (very_large, 7),
    ],
)
def test_a_signature_that_is_none_is_refused(store, other, signer, forged, code, capsys):
    assert run(store, "trust", signer / "signer.pem") == 0
    before = digests(store)
    forged(other, signer)
    assert run(store, "install", other) == code
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and SIGNATURE in err
    assert digests(store) == before


def test_without_a_trusted_key_a_foreign_signature_does_no_harm(store, other, signer):
    changed_afterwards(other, signer)
    assert run(store, "install", other) == 0
    assert not (store / "current" / SIGNATURE).exists()


def test_several_keys_may_be_trusted(store, other, signer, tmp_path):
    another = certs.make_signer(tmp_path / "another")
    sign(other, another / "signer.key")
    keys = (signer / "signer.pem", another / "signer.pem")
    assert run(store, "trust", *keys) == run(store, "install", other) == 0


def test_a_store_that_does_not_exist_yet_may_trust(bundles, signer, tmp_path, capsys):
    store = tmp_path / "new"
    assert run(store, "trust", signer / "signer.pem") == 0
    assert run(store, "install", bundles[0]) == 25
    assert run(store, "list") == 0 and digests(store) == (None, None)


def test_keys_that_are_none_are_refused_and_a_damaged_list_permits_nothing(
    store, other, signer, tmp_path, capsys
):
    identity = certs.init(tmp_path / "fleet")
    for wrong in (signer / "signer.key", identity / "ca.pem", tmp_path / "nothing", other):
        assert run(store, "trust", wrong) == 25
    assert not (store / "signers.pem").exists()

    assert run(store, "trust", signer / "signer.pem") == 0
    sign(other, signer / "signer.key")
    (store / "signers.pem").write_text("")
    assert run(store, "install", other) == 25
    assert "holds no public key" in capsys.readouterr().err


def test_without_cryptography_it_is_said_and_nothing_is_installed(
    store, other, signer, monkeypatch, capsys
):
    assert run(store, "trust", signer / "signer.pem") == 0
    sign(other, signer / "signer.key")
    for module in list(sys.modules):
        if module.startswith("cryptography"):
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    before = digests(store)
    assert run(store, "install", other) == 25
    assert "pip install '.[device,signed]'" in capsys.readouterr().err
    assert digests(store) == before


def test_a_link_in_the_place_of_what_is_written_is_not_followed(other, signer, tmp_path):
    (tmp_path / "mine").write_text("mine")
    partial = other / f"{SIGNATURE}.partial"
    partial.symlink_to(tmp_path / "mine")
    written = sign(other, signer / "signer.key")
    assert (tmp_path / "mine").read_text() == "mine"
    assert written.is_file() and not written.is_symlink() and not os.path.lexists(partial)


def test_a_signature_that_cannot_be_written_leaves_nothing(other, signer, monkeypatch):
    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edvit_tf.operate.signing.os.replace", full)
    with pytest.raises(OutputError, match="No space left"):
        sign(other, signer / "signer.key")
    assert not [path for path in other.iterdir() if SIGNATURE in path.name]


def test_signing_verifies_and_overwrites_nothing_unasked(other, signer, tmp_path):
    assert (signer / "signer.key").stat().st_mode & 0o777 == 0o600
    written = sign(other, signer / "signer.key")
    before = written.read_bytes()
    assert sign(other, signer / "signer.key").read_bytes() == before  # Ed25519 has no chance in it

    another = certs.make_signer(tmp_path / "another")
    with pytest.raises(OutputError, match="--overwrite"):
        sign(other, another / "signer.key")
    assert written.read_bytes() == before
    assert sign(other, another / "signer.key", overwrite=True).read_bytes() != before

    with pytest.raises(ConfigError, match="another kind of key"):
        sign(other, certs.init(tmp_path / "fleet") / "ca.key")
    with pytest.raises(ConfigError, match="holds no key"):
        sign(other, signer / "signer.pem")
    with pytest.raises(OutputError, match="never overwritten"):
        certs.make_signer(signer)

    (other / "labels.txt").write_text("changed")
    code, _, err = run_command(["sign", other, "--key", signer / "signer.key"])
    assert code == 7 and "was changed" in err

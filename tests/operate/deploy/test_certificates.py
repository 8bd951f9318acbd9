"""Certificates of a fleet: made, kept, renewed, never overwritten."""

import pytest

from edvit_tf.errors import ConfigError
from edvit_tf.operate import certs
from edvit_tf.operate.deploy.certificates import Wanted, make_certificates

PI = Wanted("worker", "pi-0", ("10.0.0.7",))


def content(folder):
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_they_are_made_once_and_then_kept(tmp_path):
    fleet = tmp_path / "fleet"
    wanted = [PI, Wanted("client", "me")]
    done = make_certificates(fleet, wanted)
    assert [line.partition(":")[0] for line in done] == [str(fleet), "worker-pi-0", "client-me"]
    before = content(fleet)
    assert make_certificates(fleet, wanted) == [] and content(fleet) == before


@pytest.mark.parametrize(
    "issued, words",
    [
        ({"days": 20}, "ends on"),
        ({"hosts": ["10.0.0.9"]}, "not for 10.0.0.7"),
        ({"name": "pi-9"}, "of another role or name"),
    ],
)
def test_one_that_does_not_do_is_moved_aside_and_renewed(tmp_path, issued, words):
    given = {"name": "pi-0", "hosts": ["10.0.0.7"], **issued}
    certs.init(tmp_path)
    certs.issue(tmp_path, "worker", out=tmp_path / "worker-pi-0", **given)
    before = content(tmp_path / "worker-pi-0")
    (line,) = make_certificates(tmp_path, [PI])
    assert words in line and "worker-pi-0.old-1" in line
    kept = {file.name: text for file, text in content(tmp_path / "worker-pi-0.old-1").items()}
    assert kept == {file.name: text for file, text in before.items()}
    assert make_certificates(tmp_path, [PI]) == []


def test_one_stays_where_the_authority_cannot_sign_another(tmp_path):
    make_certificates(tmp_path, [PI])
    (tmp_path / "ca.key").rename(tmp_path.with_name("ca.key elsewhere"))
    before = content(tmp_path)
    with pytest.raises(ConfigError, match="holds no authority"):
        make_certificates(tmp_path, [Wanted("worker", "pi-0", ("10.0.0.8",))])
    assert content(tmp_path) == before and len(list(tmp_path.iterdir())) == 2


def test_an_address_is_known_however_it_is_written(tmp_path):
    wanted = [Wanted("worker", "pi-0", ("FD00:0::0001", "10.0.0.7", "pi-0.local"))]
    assert len(make_certificates(tmp_path / "fleet", wanted)) == 2
    assert make_certificates(tmp_path / "fleet", wanted) == []


def test_one_of_another_authority_is_renewed(tmp_path):
    for name in ("one", "two"):
        certs.init(tmp_path / name)
    certs.issue(tmp_path / "one", "worker", "pi-0", ["10.0.0.7"], out=tmp_path / "two/worker-pi-0")
    (line,) = make_certificates(tmp_path / "two", [PI])
    assert "of another authority" in line


def test_what_is_no_certificate_says_so(tmp_path):
    certs.init(tmp_path)
    (tmp_path / "ca.pem").write_text("no")
    with pytest.raises(ConfigError, match="is no certificate"):
        make_certificates(tmp_path, [PI])

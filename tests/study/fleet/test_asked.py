"""What `python -m edvit_tf.study.fleet` says where there is no torch."""

import sys

import pytest


@pytest.fixture
def main(monkeypatch):
    """Its `main`, in a process where neither torch nor what needs it can be imported."""
    for name in [one for one in sys.modules if one.startswith("edvit_tf.study.fleet")]:
        monkeypatch.delitem(sys.modules, name)
    for name in [one for one in sys.modules if one.partition(".")[0] == "torch"]:
        monkeypatch.delitem(sys.modules, name)

    class NoTorch:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] == "torch":
                raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(sys, "meta_path", [NoTorch(), *sys.meta_path])
    from edvit_tf.study.fleet.__main__ import main

    return main


def test_help_needs_no_torch(main, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    said = capsys.readouterr().out
    assert ended.value.code == 0 and "{few,many}" in said and "{shift_flip,shift,affine}" in said


def test_options_are_read_before_torch_is_missed(main, tmp_path, capsys):
    for words, said in (
        (["--members", "11"], "a fleet has 2 to 10"),
        ([], "torch, which is not installed: pip install torch"),
    ):
        with pytest.raises(SystemExit) as ended:
            main([str(tmp_path), "--out", str(tmp_path / "out"), *words])
        assert ended.value.code == 2 and said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())

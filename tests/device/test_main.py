"""The command line of a device tells what a user can mend from a fault of ours."""

import pytest
from PIL import Image

from tests.support.commands import run_python

PLANTED = """
from edvit_tf.device.model.{module} import {owner}

def planted(*arguments, **named):
    raise {error}("planted")

{owner}.{name} = planted
from edvit_tf.device.__main__ import main
raise SystemExit(main([{bundle!r}, "--predict", {file!r}]))
"""


@pytest.mark.parametrize("error", ["IndexError", "ValueError", "RuntimeError", "OSError"])
@pytest.mark.parametrize(
    "module, owner, name", [("runtime", "Model", "run"), ("predict", "Fleet", "probabilities")]
)
def test_a_fault_in_the_prediction_is_a_traceback(
    tiny_bundle, tmp_path, error, module, owner, name
):
    """No file, no bundle and no machine is to blame, so no code of theirs may say so."""
    file = tmp_path / "picture.png"
    Image.new("L", (16, 16)).save(file)
    code = PLANTED.format(
        module=module,
        owner=owner,
        name=name,
        error=error,
        bundle=str(tiny_bundle),
        file=str(file),
    )
    done = run_python("-c", code)
    assert done.returncode == 1 and "Traceback" in done.stderr, done.stderr
    assert f"{error}: planted" in done.stderr and "cannot be used" not in done.stderr


def test_a_file_that_is_not_there_is_the_users_to_mend(tiny_bundle, tmp_path):
    done = run_python("-m", "edvit_tf.device", tiny_bundle, "--predict", tmp_path / "none.png")
    assert done.returncode == 10 and "Traceback" not in done.stderr
    assert "none.png" in done.stderr

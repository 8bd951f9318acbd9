"""`python -m edvit_tf.device.update`: see `commands.py`."""

from edvit_tf.device.update.commands import main

if __name__ == "__main__":
    raise SystemExit(main())

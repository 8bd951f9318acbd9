"""`python -m edvit_tf.cli`, the same as the command `edvit`."""

from edvit_tf.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())

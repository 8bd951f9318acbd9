"""A bundle and its files on this device: opened, verified, decoded, run.

Read `bundle.py` (the manifest and its files), `input_spec.py` (what a kind of input brings),
`image.py` and `sound.py` (the kinds, over `resize.py` and `decode.py`), `input_kinds.py` (their
table), `bundle_input.py` (a bundle's own), `view.py` (how a sub-model sees an input), `runtime.py`
(one shim over both TFLite runtimes), `memory.py`, `subprocess_run.py` with `subprocess_main.py` (a
model over an array file, in a process of its own), `golden.py` and `tune.py` (the fastest file and
thread count that answer right), and `predict.py` (sub-models and fusion of a bundle in one
process).
"""

"""What runs on a Raspberry Pi: the standard library, numpy and one TFLite runtime; nothing else of ours.

Read `bundle.py` (open and verify a bundle), `preprocess.py` (files -> model inputs; training uses it too), `runtime.py`
(one shim over tflite-runtime and ai-edge-litert), `answer.py` (sub-models and fusion of a bundle in one process),
`batch.py` and `process.py` (a model over an array file, in a process of its own), `selfcheck.py`, `tune.py` (the
fastest file and thread count), `__main__.py` (the command line).
"""

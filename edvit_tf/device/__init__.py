"""What runs on a Raspberry Pi: the standard library, numpy and one TFLite runtime; nothing else of ours.

Read `bundle.py` (open and verify a bundle), `preprocess.py` (files -> model inputs; training uses it too), `runtime.py`
(one shim over tflite-runtime and ai-edge-litert), `memory.py`, `batch.py` and `process.py` (a model over an array file,
in a process of its own), `golden.py` and `tune.py` (the fastest file and thread count that answer right), `answer.py`
(sub-models and fusion of a bundle in one process), `selfcheck.py`, `__main__.py` (the command line).
"""

"""From trained weights to a bundle a stranger can open. Read `fold.py`, `gelu.py`, `graph.py` (the
deployment graph), `convert.py` (to .tflite), `parity.py` (Keras against the file, in a process
without TensorFlow: `process.py`), `bundle.py` (manifest, files, golden input, sha256), `card.py`
(the bundle's README)."""

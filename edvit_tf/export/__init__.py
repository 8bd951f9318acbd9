"""From trained weights to a bundle a stranger can open.

What graph a device runs is the architecture's to say (`edvit_tf.models`). Read `convert.py` (a
graph -> .tflite), `parity.py` (Keras against the file, in a process without TensorFlow:
`process.py`), `fusion.py` and `fusion_graphs.py` (how the sub-models' answers become one),
`bundle.py` (manifest, files, golden input, sha256), `card.py` (the bundle's README).
"""

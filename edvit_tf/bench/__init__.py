"""Benchmarks of this machine, with warm-up, median and spread: `edvit bench
plan|latency|training|fleet|load`.

Read `plan.py` (planning at scale), `latency.py` (sub-models in the TFLite runtimes and, beside
them, in others: `rivals.py`, over `onnx_graph.py`), `training.py` (a training step, four ways),
`fleet.py` (workers and an aggregator on this machine), `load/` (a running fleet at a given rate).
`edvit bench scores` is `cost` of `edvit_tf.study.scores`.
"""

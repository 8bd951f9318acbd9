"""Benchmarks of this machine, with warm-up, median and spread. Read `plan.py` (planning at scale)
and `latency.py` (sub-models in the TFLite runtimes and, beside them, in others: `rivals.py`, over
`onnx_graph.py`), `fleet.py` (workers and an aggregator on this machine)."""

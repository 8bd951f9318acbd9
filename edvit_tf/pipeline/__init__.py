"""The whole run, resumable. Read `run.py` (the order of the stages), `inputs.py`, `fleet.py`,
`rivals.py` (models beside it), `members.py`, `cutting.py`, `steps.py` (what each does),
`measure.py` (the figures, from .tflite files in processes of their own), `store.py` (finished
stages on disk)."""

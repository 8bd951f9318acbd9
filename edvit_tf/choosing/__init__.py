"""What a run of somebody's own data is to do: chosen from the data, the base and the machine.

Read bases.py (which pretrained model is at hand), settings.py (the table, as
docs/howto/own_data.md has it), then expectations.py (what may be expected of so many files). No
TensorFlow.
"""

"""The command line `edvit` and that of every recipe; TensorFlow is loaded when a command needs it.

Read `options.py` (a table's row: what is typed, and which field it sets), `planning_options.py`
(the table that recipes and `edvit plan` share), `recipe.py` (the command line of a recipe),
`main.py` (`edvit`, and what its commands end with). The commands themselves: `plan.py`,
`bundles.py` (evaluate, audit, report), `bench.py`, `study.py` (and sweep), `fleet.py` (serve,
predict, push), `certs.py`.
"""

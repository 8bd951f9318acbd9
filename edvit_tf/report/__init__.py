"""What people read. `results.py` (what a run stored, as the types of `entries.py`), `tables.py`
(text for the terminal), `floor.py` (whether a run stands above its floor), `verdict.py` (what the
figures say, in sentences), `top.py` (the same in three lines), `units.py` (quantities as people say
them), `figures.py` (SVG), a module for each picture and table of the page, `page.py` (one
self-contained report.html from what a bundle stores), `audit.py` (Keras summaries and bytes,
reconciled), `audit_runs.py` (operators, delegation, memory).
"""

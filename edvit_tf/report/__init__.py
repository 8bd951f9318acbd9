"""What people read. `tables.py` (text for the terminal), `verdict.py` (what the figures say, in
sentences), `figures.py` (SVG), `measured.py` and `lost.py` (the page's tables), `page.py` (one
self-contained report.html from what a bundle stores), `audit.py` (Keras summaries and bytes,
reconciled), `audit_runs.py` (operators, delegation, memory).
"""

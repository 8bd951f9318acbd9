"""What people read. `tables.py` (text for the terminal), `audit.py` (Keras summaries and bytes, reconciled), `page.py`
(one self-contained report.html from what a bundle stores)."""

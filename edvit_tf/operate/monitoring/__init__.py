"""What Prometheus and Grafana need to watch a fleet: `edvit monitoring rules|dashboard|scrape`.

All of it is printed, and made of the metrics that docs/reference/metrics.md lists. One scrape of
the aggregator has all devices; scraping the workers too adds what each process says of itself.
"""

HUB_JOB = "edvit"  # of the aggregator, in Prometheus
WORKER_JOB = "edvit-worker"
JOBS = f'job=~"{HUB_JOB}|{WORKER_JOB}"'

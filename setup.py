"""Packaging of edvit_tf: what each kind of machine installs. A Pi takes [device] and never resolves
TensorFlow.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "([^"]+)"', (ROOT / "edvit_tf" / "__init__.py").read_text("utf-8"), re.M
)[1]

BASE = [
    # arrays everywhere; tflite-runtime 2.14.0 breaks with numpy 2
    'numpy>=1.26,<2; python_version < "3.12"',
    'numpy>=1.26; python_version >= "3.12"',
]
DEVICE = [
    # runs .tflite files on a Pi, 64 and 32 bits; it has wheels for Linux and Python 3.11 alone
    'tflite-runtime==2.14.0; python_version < "3.12" and sys_platform == "linux"',
    # its successor, everywhere else
    'ai-edge-litert>=2.1,<3; python_version >= "3.12" or sys_platform != "linux"',
    "grpcio>=1.80,<2",  # the wire between clients, aggregator and workers
    "protobuf>=6,<8",  # its messages, described by ourselves
]
SIGNED = [
    "cryptography>=42",  # checks the signatures of bundles, on devices whose store asks for them
]
DISCOVER = [
    "zeroconf>=0.130",  # `--announce` of workers, and `edvit discover`
    "ifaddr>=0.2",  # the addresses that are announced; zeroconf brings it anyway
]
AGGREGATOR = [
    *DEVICE,  # the fusion is a .tflite file as well
    "cryptography>=42",  # `edvit certs`
    "shtab>=1.7,<2",  # completions of `edvit` for bash, zsh and tcsh
    "uvicorn>=0.30",  # the aggregator's HTTP port; without it there are /metrics and /healthz alone
    "starlette>=0.40",  # its paths, requests and answers
]
HOST = [
    # training, and the converter to .tflite; no wheels for Intel's Macs
    "tensorflow>=2.21,<2.22",
    "keras>=3.15,<4",  # the models are ordinary Keras 3 models
    "keras-cv==0.9.0",  # RandAugment of training (frozen upstream: last version)
    "tensorflow-model-optimization>=0.8,<0.9",  # weights on few values, in a process of its own
    "tf_keras>=2.21,<2.22",  # Keras 2, which it needs
    # processes of `--jobs`: they load no __main__, and one that is killed is noticed at once
    "loky>=3.4,<4",
    "rich>=13,<16",  # the bars of a run on a terminal; Keras brings it anyway
    "librosa>=0.11,<2",  # makes the mel filter bank
    "soxr>=0.3.7",  # resamples recordings; librosa brings it anyway
    "scikit-learn>=1.1",  # floor of texts, digits of recipes/digits.py; librosa brings it
    "soundfile>=0.12",  # decodes WAV and FLAC
    "pillow>=10",  # decodes JPEG and PNG
    # gives a worker's linear algebra the threads of the run's own; scikit-learn brings it anyway
    "threadpoolctl>=3.1",
    "scipy>=1.12",  # the MILP of the optimal assignment
    "safetensors>=0.8,<1",  # reads pretrained weights (Hugging Face) without running code
    "h5py>=3.10",  # reads KerasHub presets; Keras brings it anyway
    "huggingface-hub>=0.30,<3",  # fetches --base OWNER/NAME; imported only then
    # reads the paper's numbers for `edvit reproduce`: people edit them, and JSON has no comments;
    # huggingface-hub brings it anyway
    "pyyaml>=6",
    # evaluation runs what the devices run; the aggregator and `edvit certs` may live here
    *AGGREGATOR,
    "ai-edge-litert>=2.1,<3",  # the other runtime, so that int8 files are run where they are made
]
JAX = [
    "jax>=0.6,<1",  # `--backend jax`: fits by Keras's JAX backend; jax[cuda12] for a GPU
]
TUNE = [
    "optuna>=4,<6",  # `edvit train --tune`: proposes settings, ends bad trials early
]
RAY = [
    "ray>=2.9",  # `--ray`: members are fitted by the nodes of a cluster
    # Ray loads it where it is there, as with [host]; newer ones are built for numpy 2, which
    # tflite-runtime cannot have
    "pyarrow<22; python_version < '3.12'",
]
TRACES = [  # `edvit serve --traces`; without it a trace is passed on to the workers and logged
    "opentelemetry-sdk>=1.27,<2",  # makes spans, samples, and sends them in a thread of its own
    "opentelemetry-exporter-otlp-proto-http>=1.27,<2",  # to a collector, over HTTP
]
HUB = [
    "huggingface-hub>=0.30,<3",  # `edvit hub push|pull`, where there is no [host]
]
WATCH = [  # `edvit watch`; each is asked for only by the source or the action that needs it
    "av>=14",  # --camera: decodes video, files and streams, with FFmpeg inside its wheels
    "pillow>=10",  # frames as JPEG, where that is smaller
    "sounddevice>=0.5",  # --microphone, by PortAudio
    "soxr>=0.3.7",  # resamples its sound
    "soundfile>=0.12",  # recordings other than 16-bit WAV
    "paho-mqtt>=2,<3",  # --mqtt
]
TEST = [
    "pytest>=8",  # the tests
    "pytest-xdist>=3.6",  # a process of tests for each core
    "hypothesis>=6.100",  # their properties
    "ruff>=0.6",  # style
    "import-linter>=2.1",  # the reading order of the package
    "mypy>=1.11",  # types of planning, configuration, device and aggregator
    "types-protobuf>=5",  # those of protobuf, for it
    "tritonclient[grpc,http]>=2.60",  # the client that nobody here wrote, against all servers
    *TUNE,
    *DISCOVER,
    *TRACES,
    "pyyaml>=6",  # reads what `edvit deploy --print-compose` prints
    "prometheus-client>=0.20",  # reads the metrics as Prometheus does
    "grafana-foundation-sdk",  # Grafana's own classes, which read the dashboard
]
# the independent implementation that the pretrained loaders are compared with; only tests need it
REFERENCE = [
    "torch>=2.6,<3",  # runs it; for a build without CUDA install torch first, as .ci/run does
    "transformers>=5,<6",  # ViT, DINOv2, AST and BERT
    "tokenizers>=0.20",  # its WordPiece; transformers brings it anyway
    "spikingjelly==0.0.0.0.14",  # the neurons of EC-SNN's code; later versions have another API
]

DOCS = [
    "mkdocs-material>=9.6,<10",  # the site of docs/, with its search, from plain Markdown
]

BENCH = [  # rivals of `edvit bench latency`; each is left out where it is missing
    "onnx>=1.17",  # writes the graph that the next two run
    "onnxruntime>=1.20",  # what most people deploy with
    "openvino>=2025",  # the fastest known on x86
    "ai-edge-litert>=2.1,<3",  # the successor of tflite-runtime, beside it
    "torch>=2.6,<3",  # eager, the baseline of papers
    # int8 and int4 files beside ours, `edvit study quantized`; Python and numpy alone
    "ai-edge-quantizer>=0.10,<1",
]

BROWSER = [
    # opens the pages in Chromium for their tests. The pages themselves carry no library: charts are
    # SVG, and columns sort by 1.5 KB of our own script (plotly.js would be 4.8 MB a page)
    "playwright>=1.50",
]

setup(
    name="edvit-tf",
    version=VERSION,
    description="Vision Transformers split by classes over groups of small devices (ED-ViT), in "
    "TensorFlow",
    long_description=(ROOT / "README.md").read_text("utf-8")
    if (ROOT / "README.md").exists()
    else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    author="The edvit_tf developers",
    python_requires=">=3.11",
    packages=find_packages(include=["edvit_tf", "edvit_tf.*"]),
    include_package_data=True,
    package_data={
        "edvit_tf": ["py.typed"],  # its types may be relied on
        "edvit_tf.reproduce": ["paper.yaml"],
        "edvit_tf.planning": ["boards.toml"],
        "edvit_tf.operate.containers": ["Dockerfile"],
        # the live page; of it uPlot 1.6.32 (MIT) draws the charts: 50 KB, and no other library of
        # that size draws lines by time
        "edvit_tf.aggregate.http": ["page/*", "page/vendor/*"],
    },
    install_requires=BASE,
    extras_require={
        "host": HOST,
        "device": DEVICE,
        "signed": SIGNED,
        "discover": DISCOVER,
        "aggregator": AGGREGATOR,
        "watch": WATCH,
        "jax": JAX,
        "tune": TUNE,
        "ray": RAY,
        "traces": TRACES,
        "hub": HUB,
        "test": TEST,
        "reference": REFERENCE,
        "docs": DOCS,
        "browser": BROWSER,
        "bench": BENCH,
    },
    entry_points={"console_scripts": ["edvit = edvit_tf.cli.main:main"]},
)

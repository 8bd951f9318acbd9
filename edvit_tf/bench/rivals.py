"""One model in a runtime that is not ours, in a process of its own: ONNX Runtime, OpenVINO, PyTorch
eager; and sgemm.

    python -m edvit_tf.bench.rivals ENGINE FOLDER THREADS REPEAT

FOLDER holds model.onnx, or for torch config.json and weights.npz, and input.npy (1, H, W, C)
float32. Prints JSON: engine with its version, threads, load_ms, times_ms, logits. "sgemm" prints
the float32 rate of a matrix product, which stands for the peak of the machine.
"""

import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from edvit_tf.errors import ConfigError

MODULES = ("onnxruntime", "openvino", "torch")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
GEMM_SIZE = 1536


def installed() -> tuple[str, ...]:
    """Rivals that can be measured here; an ONNX file is written with `onnx`."""
    has_onnx = importlib.util.find_spec("onnx") is not None
    found = []
    for name in MODULES:
        if importlib.util.find_spec(name) and (has_onnx or name == "torch"):
            found.append(name)
    return tuple(found)


def run_rival(
    engine: str, folder: Path, threads: int, repeat: int, timeout_seconds: float = 900
) -> dict:
    """What the child process printed; raises ConfigError with its words when it fails."""
    command = [sys.executable, "-m", "edvit_tf.bench.rivals"]
    command += [engine, str(folder), str(threads), str(repeat)]
    # Read when numpy is loaded: the child is started with them.
    limits = dict.fromkeys(THREAD_VARIABLES, str(threads))

    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
            env={**os.environ, **limits},
        )
    except subprocess.TimeoutExpired as error:
        raise ConfigError(
            f"{engine} was not done after {timeout_seconds:g} s; ask for fewer --runs, or leave it "
            "out with --against."
        ) from error

    if done.returncode != 0:
        raise ConfigError(
            f"{engine} failed ({done.returncode}): {done.stderr.strip()[-1500:]}. Leave it out "
            "with --against, or install the [bench] extra again."
        )

    # Runtimes may print before it.
    return json.loads(done.stdout.splitlines()[-1])


def _onnxruntime(folder: Path, threads: int):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # One operator at a time, as our own runtimes have it.
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        folder / "model.onnx", options, providers=["CPUExecutionProvider"]
    )
    return lambda x: session.run(["logits"], {"input": x})[0]


def _openvino(folder: Path, threads: int):
    import openvino

    model = openvino.Core().compile_model(
        folder / "model.onnx",
        "CPU",
        {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1},
    )
    request = model.create_infer_request()
    return lambda x: request.infer({"input": x})["logits"]


def _torch(folder: Path, threads: int):
    """The ViT in eager PyTorch, as it is written down: batch 1, all blocks on all tokens."""
    import torch

    from edvit_tf.models.vit.config import ViTConfig

    torch.set_num_threads(threads)
    config = ViTConfig.from_dict(json.loads((folder / "config.json").read_text()))
    functional = torch.nn.functional

    with np.load(folder / "weights.npz", allow_pickle=False) as file:
        w = {name: torch.from_numpy(file[name]) for name in file.files}

    matrices = {}  # as `linear` takes them, (out, in)
    for name, value in w.items():
        if name.endswith("kernel") and value.ndim == 2:
            matrices[name] = value.T.contiguous()

    kernel = w["patch_embedding.kernel"].permute(3, 2, 0, 1).contiguous()  # (d, C, p, p)
    mean = torch.tensor(config.input_mean)
    std = torch.tensor(config.input_std)

    def dense(x, name):
        return functional.linear(x, matrices[f"{name}.kernel"], w[f"{name}.bias"])

    def norm(x, name):
        gamma = w[f"{name}.gamma"]
        beta = w[f"{name}.beta"]
        return functional.layer_norm(
            x, (config.hidden_dim,), gamma, beta, config.layer_norm_epsilon
        )

    def heads(x):  # (1, T, h * head_dim) -> (1, h, T, head_dim)
        return x.reshape(1, config.num_tokens, config.num_heads, config.head_dim).transpose(1, 2)

    def attention(x, name):
        q = heads(dense(x, f"{name}.query"))
        k = heads(dense(x, f"{name}.key"))
        v = heads(dense(x, f"{name}.value"))
        y = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return dense(y.reshape(1, config.num_tokens, -1), f"{name}.output")

    def mlp(x, name):
        return dense(functional.gelu(dense(x, f"{name}.expand")), f"{name}.contract")

    @torch.inference_mode()
    def call(array):
        x = ((torch.from_numpy(array) - mean) / std).permute(0, 3, 1, 2)  # (1, C, H, W)
        x = functional.conv2d(x, kernel, w["patch_embedding.bias"], stride=config.patch_size)
        x = x.flatten(2).transpose(1, 2)  # (1, T - 1, d)
        x = torch.cat([w["class_token.token"], x], 1) + w["position_embedding.embedding"]

        for i in range(config.num_layers):
            block = f"block_{i:02d}"
            x = x + attention(norm(x, f"{block}.attention.norm"), f"{block}.attention")
            x = x + mlp(norm(x, f"{block}.mlp.norm"), f"{block}.mlp")

        # The class token alone is classified.
        return dense(norm(x[:, 0], "norm"), "head").numpy()

    return call


def _sgemm(repeat: int) -> dict:
    """GFLOP/s of the best of `repeat` products of square float32 matrices."""
    a = np.random.default_rng(0).normal(size=(GEMM_SIZE, GEMM_SIZE)).astype(np.float32)
    # Written in place: no memory is asked for while the clock runs.
    out = np.empty_like(a)
    best = float("inf")
    for _ in range(repeat):
        started = time.perf_counter()
        np.matmul(a, a, out=out)
        best = min(best, time.perf_counter() - started)
    return {"gflops": 2 * GEMM_SIZE**3 / best / 1e9}


def main(engine: str, folder: Path, threads: int, repeat: int) -> int:
    if engine == "sgemm":
        print(json.dumps(_sgemm(repeat)))
        return 0

    start = {"onnxruntime": _onnxruntime, "openvino": _openvino, "torch": _torch}[engine]
    x = np.load(folder / "input.npy")
    started = time.perf_counter()
    call = start(folder, threads)
    load_ms = (time.perf_counter() - started) * 1e3

    times = []
    for _ in range(repeat):
        started = time.perf_counter()
        logits = call(x)
        times.append((time.perf_counter() - started) * 1e3)

    report = {
        "engine": f"{engine} {importlib.metadata.version(engine)}",
        "threads": threads,
        "load_ms": load_ms,
        "times_ms": times,
        "logits": np.asarray(logits).ravel().tolist(),
    }
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))

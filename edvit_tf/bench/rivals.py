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

MODULES = {
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "torch": "torch",
}  # package: module
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
GEMM_SIZE = 1536


def installed() -> tuple[str, ...]:
    """Rivals that can be measured here; an ONNX file is written with `onnx`."""
    onnx = importlib.util.find_spec("onnx") is not None
    return tuple(
        name
        for name, module in MODULES.items()
        if importlib.util.find_spec(module) and (onnx or name == "torch")
    )


def run_rival(
    engine: str, folder: Path, threads: int, repeat: int, timeout_seconds: float = 900
) -> dict:
    """What the child process printed; raises ConfigError with its words when it fails."""
    try:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "edvit_tf.bench.rivals",
                engine,
                str(folder),
                str(threads),
                str(repeat),
            ],
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
            env={**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))},
        )
    except subprocess.TimeoutExpired as error:
        raise ConfigError(
            f"{engine} was not done after {timeout_seconds:g} s; ask for fewer --runs, or leave it "
            "out "
            "with --against."
        ) from error
    if done.returncode != 0:
        raise ConfigError(
            f"{engine} failed ({done.returncode}): {done.stderr.strip()[-1500:]}. Leave it out "
            "with "
            "--against, or install the [bench] extra again."
        )
    return json.loads(done.stdout.splitlines()[-1])


def _onnxruntime(folder: Path, threads: int):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
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
    import torch

    from edvit_tf.models.vit.config import ViTConfig

    torch.set_num_threads(threads)
    config = ViTConfig.from_dict(json.loads((folder / "config.json").read_text()))
    with np.load(folder / "weights.npz", allow_pickle=False) as file:
        w = {name: torch.from_numpy(file[name]) for name in file.files}
    f, d = torch.nn.functional, config.hidden_dim
    mean, std = torch.tensor(config.input_mean), torch.tensor(config.input_std)
    kernel = w["patch_embedding.kernel"].permute(3, 2, 0, 1).contiguous()
    matrices = {
        name: value.T.contiguous()
        for name, value in w.items()
        if name.endswith("kernel") and value.ndim == 2
    }

    def dense(x, name):
        return f.linear(x, matrices[f"{name}.kernel"], w[f"{name}.bias"])

    def norm(x, name):
        return f.layer_norm(
            x, (d,), w[f"{name}.gamma"], w[f"{name}.beta"], config.layer_norm_epsilon
        )

    def heads(x):
        return x.reshape(1, config.num_tokens, config.num_heads, config.head_dim).transpose(1, 2)

    @torch.inference_mode()
    def call(array):
        x = ((torch.from_numpy(array) - mean) / std).permute(0, 3, 1, 2)
        x = (
            f.conv2d(x, kernel, w["patch_embedding.bias"], stride=config.patch_size)
            .flatten(2)
            .transpose(1, 2)
        )
        x = torch.cat([w["class_token.token"], x], 1) + w["position_embedding.embedding"]
        for i in range(config.num_layers):
            block = f"block_{i:02d}"
            y = norm(x, f"{block}.attention.norm")
            q, k, v = (
                heads(dense(y, f"{block}.attention.{part}")) for part in ("query", "key", "value")
            )
            y = (
                f.scaled_dot_product_attention(q, k, v)
                .transpose(1, 2)
                .reshape(1, config.num_tokens, -1)
            )
            x = x + dense(y, f"{block}.attention.output")
            x = x + dense(
                f.gelu(dense(norm(x, f"{block}.mlp.norm"), f"{block}.mlp.expand")),
                f"{block}.mlp.contract",
            )
        return dense(norm(x[:, 0], "norm"), "head").numpy()

    return call


def _sgemm(repeat: int) -> dict:
    """GFLOP/s of the best of `repeat` products of square float32 matrices."""
    a = np.random.default_rng(0).normal(size=(GEMM_SIZE, GEMM_SIZE)).astype(np.float32)
    out, best = np.empty_like(a), float("inf")
    for _ in range(repeat):
        started = time.perf_counter()
        np.matmul(a, a, out=out)
        best = min(best, time.perf_counter() - started)
    return {"gflops": 2 * GEMM_SIZE**3 / best / 1e9}


def main(engine: str, folder: Path, threads: int, repeat: int) -> int:
    if engine == "sgemm":
        print(json.dumps(_sgemm(repeat)))
        return 0
    x = np.load(folder / "input.npy")
    started = time.perf_counter()
    call = {"onnxruntime": _onnxruntime, "openvino": _openvino, "torch": _torch}[engine](
        folder, threads
    )
    load_ms = (time.perf_counter() - started) * 1e3
    times = []
    for _ in range(repeat):
        started = time.perf_counter()
        logits = call(x)
        times.append((time.perf_counter() - started) * 1e3)
    print(
        json.dumps(
            {
                "engine": f"{engine} {importlib.metadata.version(engine)}",
                "threads": threads,
                "load_ms": load_ms,
                "times_ms": times,
                "logits": np.asarray(logits).ravel().tolist(),
            }
        )
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))

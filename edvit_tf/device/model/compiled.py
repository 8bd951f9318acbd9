"""ai-edge-litert's CompiledModel, its newer interface, with the methods of an Interpreter that
`runtime.load` calls.

On a processor both hand the graph to the same XNNPACK and answer alike, bit for bit. This one looks
for drivers of GPUs and NPUs when it is imported and loads, and can keep the packed weights in a
file. What that comes to is measured in docs/figures/latency.md.
"""

from typing import Any

import numpy as np
from ai_edge_litert.compiled_model import CompiledModel, CpuOptions, Options


class CompiledInterpreter:
    """A loaded .tflite file of one signature, on the processor. Raises RuntimeError on a file that
    is none.
    """

    def __init__(
        self,
        model_path: str | None = None,
        model_content: bytes | None = None,
        num_threads: int = 1,
        weight_cache: str = "",
    ) -> None:
        """`weight_cache` is a file of the packed weights, written where there is none: it is
        believed, so it must be this process's own.
        """
        cpu = CpuOptions(num_threads=num_threads, xnnpack_weight_cache_path=weight_cache)
        options = Options(cpu_options=cpu)
        if model_content is None:
            self._model = CompiledModel.from_file(model_path, options=options)
        else:
            self._model = CompiledModel.from_buffer(model_content, options=options)
        self._content = model_content  # which it may read as long as it lives

    def allocate_tensors(self) -> None:
        """Nothing is left to do."""

    def get_signature_runner(self) -> "CompiledRunner":
        """Its one signature."""
        return CompiledRunner(self._model)


class CompiledRunner:
    """Named arrays -> named arrays, through buffers that are made once."""

    def __init__(self, model: Any) -> None:
        [(key, names)] = model.get_signature_list().items()
        given = model.get_input_tensor_details(key)
        self._model = model
        self._inputs = {}
        self._details = {}
        for name, buffer in zip(names["inputs"], model.create_input_buffers(0), strict=True):
            self._inputs[name] = buffer
            detail = given[name]
            self._details[name] = {
                "shape": tuple(detail["shape"]),
                "dtype": np.dtype(detail["dtype"]),
            }

        answered = model.get_output_tensor_details(key)
        self._outputs = []  # (name, buffer, shape, dtype)
        for name, buffer in zip(names["outputs"], model.create_output_buffers(0), strict=True):
            detail = answered[name]
            shape = tuple(int(n) for n in detail["shape"])
            self._outputs.append((name, buffer, shape, np.dtype(detail["dtype"])))

    def get_input_details(self) -> dict[str, dict]:
        """{"shape", "dtype"} of each input by its name in the signature."""
        return self._details

    def __call__(self, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        for name, buffer in self._inputs.items():
            buffer.write(arrays[name])

        given = list(self._inputs.values())
        self._model.run_by_index(0, given, [buffer for _, buffer, _, _ in self._outputs])

        answers = {}
        for name, buffer, shape, dtype in self._outputs:
            answers[name] = buffer.read(int(np.prod(shape)), dtype).reshape(shape)
        return answers

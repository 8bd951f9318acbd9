"""The names of the TFLite runtimes, which a command line knows before anything is imported."""

# package: module
RUNTIMES = {"tflite-runtime": "tflite_runtime", "ai-edge-litert": "ai_edge_litert"}
# ai-edge-litert's CompiledModel in the place of its Interpreter: taken only where it is named
COMPILED = "ai-edge-litert-compiled"
NAMES = (*RUNTIMES, COMPILED)


def package_of(runtime: str) -> str:
    """The package of a name of NAMES, with its version or without: "ai-edge-litert-compiled 2.3.0"
    is of ai-edge-litert, and runs the files that list it.
    """
    name = runtime.split()[0]
    return "ai-edge-litert" if name == COMPILED else name

"""What runs a network: pare through its C API, onnxruntime, OpenVINO. Each is a callable that computes `logits()`."""

import contextlib
import ctypes
import io
import logging
import sys
from pathlib import Path

import numpy as np

# pylint: disable=import-outside-toplevel  -- a peer that is not installed is skipped by name


class Pare:
    """libpare_runtime_c on one thread."""

    class Options(ctypes.Structure):
        _fields_ = [("struct_size", ctypes.c_size_t), ("threads", ctypes.c_size_t), ("max_batch", ctypes.c_int64)]

    def __init__(self, library: Path, artifact: Path, inputs: np.ndarray):
        self.library = ctypes.CDLL(str(library))
        self.library.pare_last_error.restype = ctypes.c_char_p
        self.library.pare_session_classes.restype = ctypes.c_int64
        self.library.pare_session_classes.argtypes = [ctypes.c_void_p]
        self.inputs = np.ascontiguousarray(inputs, np.float32)
        options = self.Options(ctypes.sizeof(self.Options), 1, len(inputs))
        self.session = ctypes.c_void_p()
        self.check(self.library.pare_session_load(str(artifact).encode(), ctypes.byref(options),
                                                  ctypes.byref(self.session)))
        self.outputs = np.empty((len(inputs), self.library.pare_session_classes(self.session)), np.float32)
        # Converted once: what is timed is the call.
        self.run = self.library.pare_session_run_f32
        self.arguments = (self.session, ctypes.c_void_p(self.inputs.ctypes.data), ctypes.c_size_t(self.inputs.size),
                          ctypes.c_int64(len(inputs)), ctypes.c_void_p(self.outputs.ctypes.data),
                          ctypes.c_size_t(self.outputs.size))
        self.check(self.run(*self.arguments))

    def check(self, status: int) -> None:
        if status != 0:
            raise RuntimeError(self.library.pare_last_error().decode())

    def __call__(self) -> None:
        self.run(*self.arguments)

    def logits(self) -> np.ndarray:
        return self.outputs


class OnnxRuntime:
    """Inputs and outputs are bound once, so that no copying by Python is timed."""

    def __init__(self, model: Path, inputs: np.ndarray):
        import onnxruntime as ort

        ort.set_default_logger_severity(3)
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        self.inputs = ort.OrtValue.ortvalue_from_numpy(inputs)
        first = self.session.io_binding()
        first.bind_ortvalue_input(self.session.get_inputs()[0].name, self.inputs)
        first.bind_output(self.session.get_outputs()[0].name)
        self.session.run_with_iobinding(first)
        self.outputs = first.get_outputs()[0]
        self.binding = self.session.io_binding()
        self.binding.bind_ortvalue_input(self.session.get_inputs()[0].name, self.inputs)
        self.binding.bind_ortvalue_output(self.session.get_outputs()[0].name, self.outputs)

    def __call__(self) -> None:
        self.session.run_with_iobinding(self.binding)

    def logits(self) -> np.ndarray:
        return self.outputs.numpy()


class OpenVino:
    """`model`: a file, or a model that NNCF has quantized."""

    def __init__(self, model, inputs: np.ndarray):
        import openvino as ov

        # f32 is what stays real; bfloat16 there would change the answers.
        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1,
                    "ENABLE_CPU_PINNING": False, "INFERENCE_PRECISION_HINT": "f32"}
        core = ov.Core()
        self.compiled = core.compile_model(str(model) if isinstance(model, Path) else model, "CPU", settings)
        self.request = self.compiled.create_infer_request()
        self.inputs = inputs
        self.request.set_input_tensor(ov.Tensor(inputs, shared_memory=True))

    def __call__(self) -> None:
        self.request.infer()

    def logits(self) -> np.ndarray:
        self.request.infer()
        return self.request.get_output_tensor().data


def quantized_by_nncf(float_model: Path, batches: list[np.ndarray]):
    """OpenVINO's recommended int8: NNCF's post-training quantization of the float model."""
    logging.disable(logging.INFO)
    import nncf
    import openvino as ov

    nncf.set_log_level(logging.ERROR)
    # Its progress bars would tear up the table.
    with contextlib.redirect_stdout(io.StringIO()):
        return nncf.quantize(ov.Core().read_model(str(float_model)), nncf.Dataset(batches), subset_size=len(batches),
                             preset=nncf.QuantizationPreset.MIXED)


def versions() -> dict[str, str]:
    found = {"Python": sys.version.split()[0], "numpy": np.__version__}
    for name in ("onnxruntime", "openvino", "nncf"):
        try:
            found[name] = __import__(name).__version__
        except ImportError:
            found[name] = "not installed: skipped"
    return found

"""The networks that are compared, as files for every contestant.

bench_network (C++) writes a built-in network with seeded, masked float weights. Here it becomes ONNX, onnxruntime
quantizes that, and the activation scales that it chose go back to bench_network, which makes the .pare artifact: all
contestants run the same int8 weights on the same scales.
"""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from safetensors.numpy import load_file

OPSET = 17
CALIBRATION_IMAGES = 256
CALIBRATION_SEQUENCES = 8


@dataclass
class Files:
    """One network with one pattern of zeros; ONNX files are made for a batch."""

    folder: Path
    network: str
    pattern: str

    @property
    def artifact(self) -> Path:
        return self.folder / "model.pare"

    @property
    def graph(self) -> dict:
        return json.loads((self.folder / "graph.json").read_text())

    def float_onnx(self, batch: int) -> Path:
        return self.folder / f"float_b{batch}.onnx"

    def int8_onnx(self, batch: int) -> Path:
        return self.folder / f"int8_b{batch}.onnx"

    def is_sequence(self) -> bool:
        return len(self.image_shape()) == 2

    def image_shape(self) -> tuple[int, ...]:
        return tuple(self.graph["input_shape"][1:])


class Unsupported(Exception):
    """pare cannot make this network; the message says why."""


def inputs_of(shape: tuple[int, ...], count: int, seed: int) -> np.ndarray:
    """Images, or rows of normalized features."""
    if len(shape) == 3:
        return images(shape, count, seed)
    return np.random.default_rng(seed).standard_normal((count, *shape)).astype(np.float32)


def images(shape: tuple[int, ...], count: int, seed: int) -> np.ndarray:
    """Pixels scaled to [0, 1]: smooth random fields, so that neighbours resemble each other as in a photograph."""
    noise = np.random.default_rng(seed).standard_normal((count, *shape))
    for axis in (-1, -2):
        noise = (np.roll(noise, 1, axis) + noise + np.roll(noise, -1, axis)) / np.sqrt(3)
    return np.clip(0.5 + 0.3 * noise, 0, 1).astype(np.float32)


def calibration(shape: tuple[int, ...], batch: int) -> list[np.ndarray]:
    # Rows of features are many numbers each, and a sequence's activations take much room while they are sorted.
    count = CALIBRATION_IMAGES if len(shape) == 3 else CALIBRATION_SEQUENCES
    return np.split(inputs_of(shape, max(count // batch, 1) * batch, 100), max(count // batch, 1))


class Expansion:
    """Nodes of pare's float graph as the operators of opset 17, with which every peer recognizes its own fused forms.

    `scale_names`: where pare quantizes a value that has another name in ONNX, pare's name by ONNX's.
    """

    def __init__(self, weights: dict[str, np.ndarray], sequence: bool):
        self.weights = dict(weights)
        self.sequence = sequence
        self.nodes: list[onnx.NodeProto] = []
        self.scale_names: dict[str, str] = {}

    def op(self, op_type: str, inputs: list[str], output: str, **attributes) -> str:
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, value) -> str:
        self.weights[name] = np.asarray(value)
        return name

    def add(self, node: dict) -> None:
        expand = {"Attention": self.attention, "Gelu": self.gelu}.get(node["op_type"])
        if node["op_type"] == "Gemm" and self.sequence:
            expand = self.linear
        if expand:
            expand(node)
        else:
            self.nodes.append(helper.make_node(node["op_type"], node["inputs"], [node["output"]], name=node["name"],
                                               **node["attributes"]))

    def linear(self, node: dict) -> None:
        """Gemm takes matrices only."""
        values, weight, bias = node["inputs"]
        self.weights[weight] = np.ascontiguousarray(self.weights[weight].T)
        product = self.op("MatMul", [values, weight], node["name"] + ".product")
        self.op("Add", [product, bias], node["output"])

    def gelu(self, node: dict) -> None:
        value, name = node["inputs"][0], node["name"]
        root = self.op("Div", [value, self.constant(name + ".root", np.float32(np.sqrt(2)))], name + ".scaled")
        erf = self.op("Add", [self.op("Erf", [root], name + ".erf"), self.constant(name + ".one", np.float32(1))],
                      name + ".above")
        self.op("Mul", [self.op("Mul", [value, erf], name + ".twice"), self.constant(name + ".half", np.float32(0.5))],
                node["output"])

    def attention(self, node: dict) -> None:
        name, heads = node["name"], node["attributes"]["q_num_heads"]
        features = len(self.weights[node["inputs"][0].removesuffix(".out") + ".bias"])
        split = self.constant(name + ".split", np.array([0, 0, heads, features // heads], "int64"))
        cut = {}
        for part, value, order in zip("qkv", node["inputs"], ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])):
            reshaped = self.op("Reshape", [value, split], f"{name}.{part}.split")
            cut[part] = self.op("Transpose", [reshaped], f"{name}.{part}", perm=order)
            self.scale_names[cut[part]] = value
        scores = self.op("Div", [self.op("MatMul", [cut["q"], cut["k"]], name + ".scores"),
                                 self.constant(name + ".root", np.float32(np.sqrt(features // heads)))], name + ".scaled")
        mixed = self.op("MatMul", [self.op("Softmax", [scores], name + ".shares", axis=-1), cut["v"]], name + ".mixed")
        joined = self.op("Transpose", [mixed], name + ".joined", perm=[0, 2, 1, 3])
        self.op("Reshape", [joined, self.constant(name + ".join", np.array([0, 0, features], "int64"))], node["output"])


def write_float_onnx(files: Files, batch: int) -> None:
    graph = files.graph
    weights = load_file(files.folder / "weights.safetensors")
    expansion = expand(files, graph, weights)
    initializers = [numpy_helper.from_array(np.ascontiguousarray(value), name)
                    for name, value in expansion.weights.items() if not name.startswith("pare.")]
    shapes = {key: [batch, *graph[f"{key}_shape"][1:]] for key in ("input", "output")}
    model = helper.make_model(
        helper.make_graph(
            expansion.nodes, graph["name"],
            [helper.make_tensor_value_info(graph["input"], TensorProto.FLOAT, shapes["input"])],
            [helper.make_tensor_value_info(graph["output"], TensorProto.FLOAT, shapes["output"])],
            initializers),
        opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    onnx.save(model, files.float_onnx(batch))


def expand(files: Files, graph: dict, weights: dict[str, np.ndarray]) -> Expansion:
    expansion = Expansion(weights, files.is_sequence())
    for node in graph["nodes"]:
        expansion.add(node)
    return expansion


class Calibration(CalibrationDataReader):
    def __init__(self, name: str, shape: tuple[int, ...], batch: int):
        self.batches = iter([{name: inputs} for inputs in calibration(shape, batch)])

    def get_next(self):
        return next(self.batches, None)


def write_int8_onnx(files: Files, batch: int) -> None:
    """uint8 activations by tensor, int8 weights by output channel: what pare computes with."""
    prepared = files.folder / f"prepared_b{batch}.onnx"
    # Of a sequence's graph it would make other products, under other names.
    quant_pre_process(str(files.float_onnx(batch)), str(prepared), skip_symbolic_shape=True,
                      skip_optimization=files.is_sequence())
    reader = Calibration(files.graph["input"], files.image_shape(), batch)
    quantize_static(str(prepared), str(files.int8_onnx(batch)), reader, quant_format=QuantFormat.QDQ, per_channel=True,
                    reduce_range=False, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                    op_types_to_quantize=["MatMul"] if files.is_sequence() else None)


def activation_scales(model: onnx.ModelProto) -> dict[str, dict]:
    """Scale and zero point of every value that the model quantizes to uint8, by the value's name."""
    constants = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    scales = {}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[1] in constants and constants[node.input[1]].size == 1:
            scales[node.input[0]] = {"scale": float(constants[node.input[1]]),
                                     "zero_point": int(constants[node.input[2]])}
    return scales


def keep_logits_real(model: onnx.ModelProto) -> None:
    """Takes out the last QuantizeLinear and DequantizeLinear: pare's logits are real numbers, so shall the peers' be."""
    producers = {output: node for node in model.graph.node for output in node.output}
    logits = model.graph.output[0].name
    dequantize = producers[logits]
    if dequantize.op_type != "DequantizeLinear":
        return
    quantize = producers[dequantize.input[0]]
    producers[quantize.input[0]].output[0] = logits
    model.graph.node.remove(dequantize)
    model.graph.node.remove(quantize)


def make(tool: Path, folder: Path, network: str, pattern: str, batches: list[int]) -> Files:
    """Raises Unsupported if pare has no such network."""
    files = Files(folder / f"{network}_{pattern.replace(':', '_')}", network, pattern)
    common = ["--network", network, "--pattern", pattern, "--folder", str(files.folder)]
    run_tool(tool, "export", *common)
    for batch in batches:
        write_float_onnx(files, batch)
    # One calibration for all batches, so that their networks are the same.
    widest = max(batches)
    write_int8_onnx(files, widest)
    model = onnx.load(files.int8_onnx(widest))
    scales = activation_scales(model)
    renamed = expand(files, files.graph, load_file(files.folder / "weights.safetensors")).scale_names
    scales.update({ours: scales[theirs] for theirs, ours in renamed.items()})
    keep_logits_real(model)
    (files.folder / "activations.json").write_text(json.dumps(scales, indent=1))
    for batch in batches:
        set_batch(model, batch)
        onnx.save(model, files.int8_onnx(batch))
    run_tool(tool, "convert", *common, "--out", str(files.artifact))
    return files


def set_batch(model: onnx.ModelProto, batch: int) -> None:
    del model.graph.value_info[:]
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch


def run_tool(tool: Path, *arguments: str) -> None:
    done = subprocess.run([tool, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        if done.returncode < 0:
            done.check_returncode()  # a signal: a bug, not a network that pare lacks
        raise Unsupported(done.stderr.strip().removeprefix("bench_network: error: "))

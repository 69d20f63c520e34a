"""ONNX: the whole way from columns to label and probabilities, for any runtime with ai.onnx.ml.

| input | |
|---|---|
| ``numbers`` | (N, K) double, the columns of numbers in the order of the model; NaN is missing |
| ``text`` | (N, M) string, the categories; "" is missing |
| ``vector_0``, … | (N, length) float, one for each column of vectors |
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from jaxsoftmax.training.errors import InputError
from jaxsoftmax.training.model import Classifier

from . import Exported
from .columns import Groups, check_float32, codes, groups

OPSET, ML_OPSET = 17, 3  # of 2022; runtimes of today know them

try:
    import onnx
    from onnx import TensorProto, helper, numpy_helper
except ImportError:
    raise InputError(
        "--format onnx needs the package onnx, which is not installed; "
        "install it with: pip install 'jaxsoftmax[onnx]'"
    ) from None


def write(model: Classifier) -> Exported:
    """A model with the inputs above, and the outputs ``label (N,)``, ``probabilities (N, C)``.

    Raises:
      InputError: float32 cannot hold the numbers of a column of vectors.
    """
    found, graph = groups(model), _Graph()
    check_float32(found.vectors, "an ONNX model")
    features = [*_numbers(graph, found), *_categories(graph, found, model)]
    features += _vectors(graph, found)
    x = graph.node("Concat", *features, axis=1) if len(features) > 1 else features[0]
    if model.columns.unit_length:
        length = graph.node("ReduceL2", x, axes=[1], keepdims=1)
        positive = graph.node("Greater", length, graph.constant(np.float64(0)))
        length = graph.node("Where", positive, length, graph.constant(np.float64(1)))
        x = graph.node("Div", x, length)
    x = graph.node("Cast", x, to=TensorProto.FLOAT)
    logits = graph.node("Gemm", x, graph.constant(found.kernel), graph.constant(found.bias))
    graph.node("Softmax", logits, axis=1, output="probabilities")
    best = graph.node("ArgMax", logits, axis=1, keepdims=0)
    graph.node(
        "LabelEncoder",
        best,
        domain="ai.onnx.ml",
        output="label",
        keys_int64s=list(range(len(model.classes))),
        values_strings=list(model.classes),
    )
    made = graph.model(model)
    onnx.checker.check_model(made, full_check=True)
    names = ", ".join(entry.name for entry in made.graph.input)
    return Exported(
        made.SerializeToString(),
        (f"takes {names} (its metadata name their columns); gives label, probabilities",),
    )


def _numbers(graph: _Graph, found: Groups) -> list[str]:
    if not found.numbers:
        return []
    x = graph.input("numbers", TensorProto.DOUBLE, len(found.numbers))
    absent = graph.node("IsNaN", x)
    centred = graph.node("Sub", x, graph.constant(found.mean))
    scaled = graph.node("Div", centred, graph.constant(found.scale))
    features = [graph.node("Where", absent, graph.constant(np.float64(0)), scaled)]
    if found.indicators:
        chosen = graph.node("Gather", absent, graph.constant(np.array(found.indicators)), axis=1)
        features.append(graph.node("Cast", chosen, to=TensorProto.DOUBLE))
    return features


def _categories(graph: _Graph, found: Groups, model: Classifier) -> list[str]:
    if not found.categories:
        return []
    text, features = graph.input("text", TensorProto.STRING, len(found.categories)), []
    for number, column in enumerate(found.categories):
        known = codes(column, model.columns)
        one = graph.node("Gather", text, graph.constant(np.array([number])), axis=1)
        code = graph.node(
            "LabelEncoder",
            one,
            domain="ai.onnx.ml",
            keys_strings=list(known),
            values_int64s=list(known.values()),
            default_int64=-1,
        )
        values = graph.constant(np.arange(len(column.values)))
        features.append(
            graph.node("Cast", graph.node("Equal", code, values), to=TensorProto.DOUBLE)
        )
    return features


def _vectors(graph: _Graph, found: Groups) -> list[str]:
    features = []
    for number, column in enumerate(found.vectors):
        given = graph.input(f"vector_{number}", TensorProto.FLOAT, len(column.mean))
        x = graph.node("Cast", given, to=TensorProto.DOUBLE)
        x = graph.node("Sub", x, graph.constant(np.array(column.mean)))
        features.append(graph.node("Div", x, graph.constant(np.array(column.scale))))
    return features


class _Graph:
    """Collects nodes, and names what is between them."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.inputs: list[Any] = []
        self.constants: list[Any] = []

    def input(self, name: str, kind: int, width: int) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, kind, ["rows", width]))
        return name

    def constant(self, value: Any) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        name = output or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def model(self, model: Classifier) -> Any:
        outputs = [
            helper.make_tensor_value_info("label", TensorProto.STRING, ["rows"]),
            helper.make_tensor_value_info(
                "probabilities", TensorProto.FLOAT, ["rows", len(model.classes)]
            ),
        ]
        graph = helper.make_graph(self.nodes, "softmax", self.inputs, outputs, self.constants)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
        made = helper.make_model(graph, opset_imports=opsets, producer_name="jaxsoftmax")
        made.ir_version = 8  # that of these opsets
        found = groups(model)
        columns = {
            "numbers": [column.name for column in found.numbers],
            "text": [column.name for column in found.categories],
            "vectors": [column.name for column in found.vectors],
        }
        for key, value in {"columns": columns, "classes": model.classes}.items():
            made.metadata_props.add(key=key, value=json.dumps(value, ensure_ascii=False))
        return made

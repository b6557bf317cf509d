"""A small builder of ONNX graphs: nodes are added one by one, values are known by their names."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from loopline.errors import EnvironmentProblem

OPSET, ML_OPSET, IR_VERSION = 21, 5, 10
"""ONNX 1.16 of March 2024; its `TreeEnsemble` compares doubles with doubles. onnxruntime reads
all that is written here from 1.23 on: 1.20 lacks trees in doubles, 1.22 does not end on some."""


Made = TypeVar("Made")


def require_onnx() -> None:
    """Raise when ONNX or onnxruntime is not installed.

    Raises:
        EnvironmentProblem: names the extra.
    """
    for name in ("onnx", "onnxruntime"):
        if importlib.util.find_spec(name) is None:
            raise EnvironmentProblem(
                f"An ONNX export needs the package {name}, which is not installed; "
                "run `pip install 'loopline[onnx]'`."
            )


class Graph:
    """Nodes and constants of a graph that is being made."""

    def __init__(self) -> None:
        require_onnx()
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._told: list[Any] = []
        self._domains = {"": OPSET, "ai.onnx.ml": ML_OPSET}
        self._made: dict[Hashable, Any] = {}

    def once(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What `make` adds, added when it is first asked for under this key."""
        if key not in self._made:
            self._made[key] = make()
        made: Made = self._made[key]
        return made

    def input(self, name: str, kind: str) -> str:
        """An input of shape (rows, 1): "double", "int64" or "string"."""
        self._inputs.append(_value(name, kind, 1))
        return name

    def output(self, name: str, kind: str, source: str, width: int | None) -> None:
        """An output of shape (rows, width), or (rows,) where `width` is None."""
        self._nodes.append(_node("Identity", [source], [name], ""))
        self._outputs.append(_value(name, kind, width))

    def constant(self, value: Any, dtype: Any = np.float64) -> str:
        """A constant; an array of text where `dtype` is object."""
        from onnx import numpy_helper

        name = f"/constant{len(self._constants)}"
        array = np.asarray(value, dtype=dtype)
        self._constants.append(numpy_helper.from_array(array, name))
        return name

    def add(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:  # noqa: D417
        """Add a node with one output and give the output's name.

        Args:
            kind: the operator.
            inputs: names of values.
            domain: the operator's domain, ONNX's own by default.
        """
        name = f"/{kind}{len(self._nodes)}"
        self._domains.setdefault(domain, 1)
        self._nodes.append(_node(kind, list(inputs), [name], domain, attributes))
        return name

    def tell(self, value: str, kind: str, shape: Sequence[str | int]) -> str:
        """Tell the type of a value that an operator outside ONNX makes, which no one can infer."""
        from onnx import helper

        self._told.append(helper.make_tensor_value_info(value, _kinds()[kind], shape))
        return value

    def cast(self, value: str, kind: str) -> str:
        """A value as double, int64, uint64, float or bool."""
        return self.add("Cast", value, to=_kinds()[kind])

    def encode(self, x: str, keys: Sequence[Any], codes: Sequence[int], other: int) -> str:
        """The code of each value, int64; `other` for values that are no key.

        Args:
            x: texts, doubles or whole numbers.
            keys: values of the same type, each once.
            codes: one a key.
            other: the code of the rest.
        """
        if isinstance(keys[0], str):  # onnxruntime 1.25 does not load text in tensor attributes
            return self.add(
                "LabelEncoder",
                x,
                domain="ai.onnx.ml",
                keys_strings=list(keys),
                values_int64s=[int(code) for code in codes],
                default_int64=other,
            )
        dtype = np.float64 if isinstance(keys[0], float) else np.int64
        return self.add(
            "LabelEncoder",
            x,
            domain="ai.onnx.ml",
            keys_tensor=tensor(keys, dtype),
            values_tensor=tensor(codes, np.int64),
            default_tensor=tensor([other], np.int64),
        )

    def select(self, table: NDArray[np.float64], index: str) -> str:
        """The rows of a table at an int64 index of shape (rows, 1): (rows, columns)."""
        rows = self.add("Gather", self.constant(table), index, axis=0)
        return self.add("Squeeze", rows, self.constant([1], np.int64))

    def model(self, name: str, facts: dict[str, str]) -> Any:
        """The whole as a checked ONNX model with facts for people and programs."""
        import onnx
        from onnx import helper

        graph = helper.make_graph(
            self._nodes,
            name,
            self._inputs,
            self._outputs,
            initializer=self._constants,
            value_info=self._told,
        )
        made = helper.make_model(
            graph,
            producer_name="loopline",
            ir_version=IR_VERSION,
            opset_imports=[
                helper.make_opsetid(domain, version) for domain, version in self._domains.items()
            ],
        )
        helper.set_model_props(made, facts)
        onnx.checker.check_model(made, full_check=True)
        return made


def tensor(value: Any, dtype: Any) -> Any:
    """An array as a tensor attribute."""
    from onnx import numpy_helper

    return numpy_helper.from_array(np.asarray(value, dtype=dtype), "")


def _node(
    kind: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    domain: str,
    attributes: dict[str, Any] | None = None,
) -> Any:
    from onnx import helper

    node = helper.make_node(kind, inputs, outputs, domain=domain, name=outputs[0])
    for name, value in (attributes or {}).items():
        node.attribute.append(helper.make_attribute(name, value))
    return node


def _value(name: str, kind: str, width: int | None) -> Any:
    from onnx import helper

    shape: list[str | int] = ["rows"] if width is None else ["rows", width]
    return helper.make_tensor_value_info(name, _kinds()[kind], shape)


def _kinds() -> dict[str, int]:
    from onnx import TensorProto

    return {
        "double": TensorProto.DOUBLE,
        "float": TensorProto.FLOAT,
        "int64": TensorProto.INT64,
        "uint64": TensorProto.UINT64,
        "string": TensorProto.STRING,
        "bool": TensorProto.BOOL,
    }

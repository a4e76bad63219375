"""An ONNX file in fewer bits: the image tower's weights as float16 or int8, everything around it as it was."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ..errors import MissingExtraError, UnknownNameError
from .onnx_graph import EXACT, MODEL_FILE, silenced, write_graph
from .source import Source
from .trained import Trained

PRECISIONS = ("fp32", "fp16", "int8")
"""Of a graph's image tower; see ``lower``."""


def refuse_unknown(precision: str) -> None:
    """Refuse a precision that there is not, or that onnxruntime is missing for.

    Raises:
        UnknownNameError: There is no such precision.
        MissingExtraError: onnxruntime, which converts, is not installed.
    """
    if precision not in PRECISIONS:
        raise UnknownNameError("precision", precision, PRECISIONS)
    if precision == "fp32":
        return
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        raise MissingExtraError("onnxruntime", "onnx", f"precision {precision}") from None


def lower(source: Source, trained: Trained, folder: Path, precision: str) -> None:
    """Replace the float32 graph in a folder by one whose image tower has fewer bits.

    ``fp16`` holds the tower's weights as float16 and computes with them. ``int8`` holds each output of its linear
    layers as integers of 7 bits with a scale of its own, and rounds what enters them to 8 bits by the batch: products
    of those fit into the registers of every processor. Input, output, unit length and class scores stay float32.

    Args:
        source: Where the adapter comes from.
        trained: What the graph was made of; the model is changed.
        folder: Holds a graph that ``onnx_graph.write`` wrote.
        precision: ``fp16`` or ``int8``.
    """
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        if precision == "fp16":
            write_graph(source, trained, Path(temporary), half=True)
        else:
            _quantize(folder / MODEL_FILE, Path(temporary) / MODEL_FILE)
        for file in folder.glob(f"{MODEL_FILE}*"):
            file.unlink()
        for file in Path(temporary).iterdir():
            file.replace(folder / file.name)


def _quantize(path: Path, out: Path) -> None:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(path, load_external_data=False)
    del model.graph.value_info[:]  # torch leaves shapes of weights from before it transposed them
    onnx.save(model, path)
    with silenced(""):  # advice on what may be done before, and warnings of weights that become zero
        quantize_dynamic(
            path,
            out,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            reduce_range=True,  # 8 bits times 8 bits overflow where a processor adds pairs of products in 16 bits
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[node.name for node in model.graph.node if node.name.startswith(EXACT)],
            use_external_data_format=path.with_name(f"{MODEL_FILE}.data").exists(),
        )

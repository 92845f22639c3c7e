"""Opens ONNX files of any origin: nothing is believed before it is checked, and no other folder is read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastmlp.interchange.onnx.export import CHECKSUM, PRODUCER, checksum, import_onnx
from fastmlp.validation.settings import check_path

__all__ = ["MOST_AXES", "Tensors", "load"]

MOST_AXES = 8  # of a tensor

_LARGEST = 2**31  # bytes of a message of Protocol Buffers
_MOST_NODES, _MOST_FIELDS = 20_000, 1_000_000
_REUSED = 16
"""How many times the bytes of the files the weights may have, as some may share one tensor."""


def load(source: Any) -> tuple[Any, Tensors, str]:
    """Return the ModelProto of a file or as given, its tensors, and what to call it in messages.

    Raises
    ------
    ValueError
        If the file is damaged or no model.
    """
    onnx = import_onnx("from_onnx")
    if isinstance(source, onnx.ModelProto):
        model, name, folders, n_bytes = source, "the model", [], source.ByteSize()
    else:
        name = check_path(source)
        n_bytes = _check_file(name, _LARGEST)
        with open(name, "rb") as file:
            content = file.read(n_bytes)
        if not _has_few_fields(content, onnx.ModelProto.DESCRIPTOR):
            raise ValueError(f"{name} has more than {_MOST_FIELDS:,} fields, too many for a multilayer perceptron")
        try:
            model = onnx.ModelProto.FromString(content)
        except Exception as error:  # each version of protobuf raises its own
            raise ValueError(f"{name} is damaged or no ONNX file: {error}") from error
        folders = [Path(os.path.abspath(name)).parent.resolve(), Path(name).resolve().parent]
    if not model.graph.node or not model.opset_import:
        raise ValueError(f"{name} is damaged or no ONNX file: it has no nodes, or no version of their operators")
    if len(model.graph.node) > _MOST_NODES:
        raise ValueError(f"{name} has {len(model.graph.node):,} nodes, too many for a multilayer perceptron")
    written = [entry.value for entry in model.metadata_props if entry.key == CHECKSUM]
    tensors = Tensors(folders, n_bytes)
    try:
        changed = model.producer_name == PRODUCER and written != [checksum(model, tensors.array)]
    except ValueError as error:
        raise ValueError(f"{name} is damaged: {error}") from error
    if changed:
        raise ValueError(
            f"{name} is damaged: its checksum is that of another content. If it was changed on purpose, set its "
            f"producer_name to something else than {PRODUCER!r}"
        )
    return model, tensors, name


def _check_file(path: str, largest: float) -> int:
    """Return the size of a plain file; others, such as pipes and devices, may never end."""
    if not os.path.exists(path):
        raise FileNotFoundError(f"there is no file {path}")
    if not os.path.isfile(path):
        raise ValueError(f"{path} is not a file")
    size = os.path.getsize(path)
    if size > largest:
        raise ValueError(f"{path} has {size / 2**30:.1f} GiB, but an ONNX file has at most {largest / 2**30:.0f}")
    return size


def _has_few_fields(content: bytes, kind: Any) -> bool:
    """Return whether a message has few fields, also in the messages inside: two bytes may need a hundred in memory."""
    count, waiting = 0, [(0, len(content), kind)]
    try:
        while waiting:
            at, end, kind = waiting.pop()
            while at < end:
                key, at = _integer(content, at)
                count += 1
                if count > _MOST_FIELDS:
                    return False
                match key & 7:  # how the value is written
                    case 0:
                        _, at = _integer(content, at)
                    case 1:
                        at += 8
                    case 2:
                        size, at = _integer(content, at)
                        field = kind.fields_by_number.get(key >> 3)
                        if field is not None and field.message_type is not None:
                            waiting.append((at, min(at + size, end), field.message_type))
                        at += size
                    case 5:
                        at += 4
    except IndexError:  # it is cut, which the parser reports
        pass
    return True


def _integer(content: bytes, at: int) -> tuple[int, int]:
    """Return the integer that begins at a byte, and where it ends: seven bits in each byte, the lowest first."""
    value = shift = 0
    while True:
        byte = content[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128 or shift > 63:
            return value, at


class Tensors:
    """Reads tensors, those in other files too. Their bytes all together are limited by those of the files."""

    def __init__(self, folders: list[Path], n_bytes: int) -> None:
        self._folders, self._sizes, self._read = folders, {"": n_bytes}, 0

    def count(self, n_bytes: int) -> None:
        """Refuse more bytes than the files can hold."""
        self._read += n_bytes
        total = sum(self._sizes.values())
        if self._read > _REUSED * total + 2**20:
            raise ValueError(f"uses the {total:,} bytes of the files again and again, for {self._read:,} bytes")

    def array(self, tensor: Any) -> npt.NDArray[Any]:
        """Return a TensorProto as an array."""
        import onnx

        name, n = tensor.name, 1
        if len(tensor.dims) > MOST_AXES:
            raise ValueError(f"the tensor {name!r} has {len(tensor.dims):,} axes")
        for size in tensor.dims:
            n *= size
            if size < 0:
                raise ValueError(f"the tensor {name!r} has the shape {list(tensor.dims)}")
        try:
            dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                return self._external(tensor, n, dtype)
            if tensor.HasField("raw_data") and dtype.kind in "fiub" and len(tensor.raw_data) != n * dtype.itemsize:
                raise ValueError(f"it has {len(tensor.raw_data):,} bytes, not {n * dtype.itemsize:,}")
            array: npt.NDArray[Any] = onnx.numpy_helper.to_array(tensor)
        except OSError:
            raise
        except Exception as error:  # onnx raises many kinds
            raise ValueError(f"the tensor {name!r} of shape {list(tensor.dims)} cannot be read: {error}") from error
        self.count(array.nbytes)
        return array

    def _external(self, tensor: Any, n: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """Return a tensor whose bytes are in another file of the same folder."""
        entries = {entry.key: entry.value for entry in tensor.external_data}
        path = self._beside(entries.get("location", ""))
        size = _check_file(str(path), np.inf)
        offset, length = int(entries.get("offset") or 0), n * dtype.itemsize
        if int(entries.get("length") or length) != length or not 0 <= offset <= size - length:
            raise ValueError(
                f"it needs {length:,} bytes from {offset:,} on of {path.name}, which has {size:,}, and it says that "
                f"it has {entries.get('length', 'all')}"
            )
        self._sizes[str(path)] = size
        self.count(length)
        array = np.fromfile(path, dtype.newbyteorder("<") if dtype.kind in "fiu" else dtype, n, offset=offset)
        return array.astype(dtype, copy=False).reshape(tuple(tensor.dims))

    def _beside(self, location: str) -> Path:
        """Return the path of a file in the folder of the model. Links may not lead out of it either."""
        if not self._folders:
            raise ValueError("its numbers are in another file; pass the path of the model instead")
        parts = Path(location.replace("\\", "/")).parts
        if not parts or "\0" in location or os.path.isabs(location) or ".." in parts or ":" in location:
            raise ValueError(f"its numbers are in {location!r}, which is not a file in the folder of the model")
        path = (self._folders[0] / location).resolve()
        if not any(path.is_relative_to(folder) for folder in self._folders):
            raise ValueError(f"its numbers are in {location!r}, a link that leaves the folder of the model")
        return path

"""The row formats of X, one file each."""

from .base import Format, Products, Rows
from .bytes import BYTES, PACKED_BYTES
from .csr import CSR
from .dense import DENSE
from .packed import PACKED

__all__ = ["FORMATS", "Format", "Products", "Rows"]

FORMATS = {"dense": DENSE, "bytes": BYTES, "packed": PACKED, "packed bytes": PACKED_BYTES, "csr": CSR}

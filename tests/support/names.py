"""Names of test parameters."""

import re


def same_everywhere(value):
    """`str`, without the addresses of objects: two processes that collect tests must find the same names."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))

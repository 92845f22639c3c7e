"""Damaged files of networks."""

from support.nets import refused

from fastmlp import reference


def flipped(whole, bit):
    """Return bytes with one wrong bit."""
    damaged = bytearray(whole)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def assert_refused(damaged, path):
    """Check that no network is read from these bytes, and that the error names the file."""
    path.write_bytes(damaged)
    with refused(ValueError, str(path)):
        reference.MLP.load(path)

"""What the tests of bad sources share."""

import numpy as np
import pytest

from fastmlp.data.sources import open_source

X = np.arange(60.0).reshape(20, 3)
Y = np.arange(20) % 3


def npy(folder, array, name="x.npy"):
    np.save(folder / name, array)
    return str(folder / name)


def refused(error, match, *args, **kwargs):
    """Check that a source is refused, and return the error."""
    with pytest.raises(error, match=match) as found:
        open_source(*args, **kwargs)
    return found.value


def read_fails(error, match, source, block=-1):
    """Check that a block cannot be read."""
    with pytest.raises(error, match=match) as found:
        list(source.read([range(len(source.lengths))[block]]))
    return found.value

"""Fresh processes: the import, a first small fit with nothing compiled, and one with kernels compiled before."""

import os
import shutil
import tempfile

from .startup import FIT, IMPORT, process_seconds
from .suite import Benchmark


class Startup(Benchmark):
    """Seconds from the start of the interpreter to its end."""

    unit = "seconds"

    def setup(self):
        self.cache = tempfile.mkdtemp()

    def teardown(self):
        shutil.rmtree(self.cache)

    def track_import(self):
        return min(process_seconds(IMPORT, self.cache) for _ in range(3))

    def track_cold_start(self):
        return process_seconds(FIT, self.cache)

    def track_warm_start(self):
        process_seconds(FIT, self.cache)
        return min(process_seconds(FIT, self.cache) for _ in range(3))

    def track_size_of_compiled_kernels(self):
        process_seconds(FIT, self.cache)
        return sum(os.path.getsize(os.path.join(self.cache, name)) for name in os.listdir(self.cache))

    track_size_of_compiled_kernels.unit = "bytes"

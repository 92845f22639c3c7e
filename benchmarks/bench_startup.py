"""Fresh processes: the import, a small first fit with an empty kernel cache, and one with a full cache."""

from pathlib import Path

from .startup import FIT, IMPORT, process_seconds
from .suite import Benchmark

KERNELS = "kernels"  # folder of the compiled kernels; asv keeps it between the benchmarks of this class


class Startup(Benchmark):
    """Seconds from the start of the interpreter to its end."""

    unit = "seconds"

    def setup_cache(self):
        return process_seconds(FIT, KERNELS)

    def track_import(self, cold):
        return min(process_seconds(IMPORT, KERNELS) for _ in range(3))

    def track_cold_start(self, cold):
        return cold

    def track_warm_start(self, cold):
        return min(process_seconds(FIT, KERNELS) for _ in range(3))

    def track_size_of_compiled_kernels(self, cold):
        return sum(path.stat().st_size for path in Path(KERNELS).iterdir())

    track_size_of_compiled_kernels.unit = "bytes"

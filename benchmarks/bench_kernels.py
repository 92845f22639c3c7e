"""Each kernel alone, in GFLOP/s and as a share of the FMA peak, which is measured in the same process."""

from .suite import Benchmark, only, part

KERNELS = [
    "dense forward", "dense update", "packed forward", "packed update", "csr forward", "csr update",
    "last forward", "backward", "last update",
]  # fmt: skip


class Kernel(Benchmark):
    """The kernels of 784-128-10 on 64 rows, see kernels.py. All are compiled and measured once."""

    param_names = ["kernel"]
    params = [KERNELS]

    def setup_cache(self):
        try:
            from .kernels import measure
        except ImportError:  # an older commit, with other kernels
            return None
        return {name: (rate.flops, rate.peak) for name, rate in measure().items()}

    def setup(self, rates, kernel):
        only(rates is not None)

    def track_gflops(self, rates, kernel):
        return rates[kernel][0] / 1e9

    def track_share_of_peak(self, rates, kernel):
        flops, peak = rates[kernel]
        return 100 * flops / peak

    track_gflops.unit = "GFLOP/s"
    track_share_of_peak.unit = "%"


class Machine(Benchmark):
    """The limits of the machine. A change here is not a change of the code."""

    def setup(self):
        self.machine = part("bench.machine")

    def track_fma_peak(self):
        return self.machine.fma_peak() / 1e9

    def track_fma_peak_of_float64(self):
        return self.machine.fma_peak("float64") / 1e9

    def track_read_bandwidth(self):
        return self.machine.read_bandwidth() / 1e9

    track_fma_peak.unit = track_fma_peak_of_float64.unit = "GFLOP/s"
    track_read_bandwidth.unit = "GB/s"

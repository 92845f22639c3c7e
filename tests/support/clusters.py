"""Clusters of Dask on this machine, with worker processes as small as they can be."""

from contextlib import contextmanager

from distributed import Client, LocalCluster


@contextmanager
def local_cluster(n_workers=2):
    """A client of a cluster of worker processes, one thread each."""
    with (
        LocalCluster(n_workers=n_workers, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        yield client

"""The client of the cluster, if the user has not given one."""

from __future__ import annotations

from distributed import Client, get_client

__all__ = ["check_is_open", "current_client"]


def current_client() -> Client:
    """Return the current client; inside of a task, that of its worker.

    Raises
    ------
    ValueError
        If there is none.
    """
    try:
        return get_client()
    except ValueError:
        raise ValueError("there is no Dask client; make one: client = distributed.Client(...)") from None


def check_is_open(client: Client) -> None:
    """Raise a ConnectionError if the client has been closed."""
    if client.status == "closed":
        raise ConnectionError("the client is closed; make another: client = distributed.Client(...)")

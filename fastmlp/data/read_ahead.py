"""`ReadAhead`: an iterator that runs in a second thread, one item ahead."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Generic, TypeVar

__all__ = ["ReadAhead"]

T = TypeVar("T")

_POLL_SECONDS = 0.05

_MOST_PATIENCE = 5.0
"""Seconds that `close` waits for the item that is being made: a reader may hang, and Ctrl-C ends the fit even so."""


class _End:
    """Why there are no more items: an error, or None."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class ReadAhead(Generic[T]):
    """The items of an iterator. While one is used, a second thread makes the next.

    So at most two items are alive at a time.

    Parameters
    ----------
    items : iterator
        Closed by the thread that runs it.
    """

    def __init__(self, items: Iterator[T]) -> None:
        self._items = items
        self._made: queue.SimpleQueue[T | _End] = queue.SimpleQueue()
        self._wanted, self._closed = threading.Semaphore(1), False
        self._thread = threading.Thread(target=self._run, name="fastmlp reads ahead", daemon=True)
        self._begun = False

    def next(self, go_on: Callable[[], bool]) -> T | None:
        """Return the next item, and let the thread make the one after it. None is the end, or that `go_on` says no.

        The first call starts the thread: what is begun before it can be ended may stay for ever, see `interrupts`.

        Raises
        ------
        BaseException
            What the iterator has raised.
        """
        if not self._begun:
            self._begun = True
            self._thread.start()
        while True:
            try:
                item = self._made.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                if not go_on():
                    return None
                continue
            if not isinstance(item, _End):
                self._wanted.release()
                return item
            self._made.put(item)  # for a further call
            if item.error is not None:
                raise item.error
            return None

    def close(self) -> None:
        """End the thread after the item that it is making; one that takes long is not waited for. May be repeated."""
        self._closed = True
        self._wanted.release()
        with suppress(RuntimeError):  # it has not been started
            self._thread.join(_MOST_PATIENCE)

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            while self._wanted.acquire() and not self._closed:
                self._made.put(next(self._items))
        except StopIteration:
            pass
        except BaseException as raised:
            error = raised
        finally:
            getattr(self._items, "close", lambda: None)()
            self._made.put(_End(error))

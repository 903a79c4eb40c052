"""One thread that captions photos in order, and a bounded number of requests that wait for it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

Result = TypeVar("Result")

PLACES = 16
"""Maximum number of requests at a time: the one at work and those that wait."""

SECONDS = 120.0
"""Maximum time of a request, waiting included."""


class RefusedError(Exception):
    """A request that gets no answer; its status is an HTTP status code."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class GoneError(Exception):
    """The client closed its connection."""


class Worker:
    """Runs jobs one at a time in a thread of its own. All methods belong to one event loop.

    Args:
        places: Maximum number of requests at a time.
        seconds: Maximum time of one.
    """

    def __init__(self, places: int = PLACES, seconds: float = SECONDS) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="captions")
        self._places = places
        self._taken = 0
        self.seconds = seconds

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold one of the places, which bounds the photos in memory.

        Raises:
            RefusedError: All places are taken.
        """
        if self._taken >= self._places:
            raise RefusedError(
                503, f"{self._places} photos are waiting already; try again in a few seconds"
            )
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1

    async def run(self, job: Callable[[], Result], gone: Awaitable[None]) -> Result:
        """Return the result of a job, which runs after those before it.

        Args:
            job: Runs in the thread. It cannot be stopped once it runs; the budgets of
                `captioner.photos.limits` and of the settings bound its time.
            gone: Done when the client has closed its connection.

        Raises:
            RefusedError: The result took too long.
            GoneError: The client has gone; a job that has not begun is dropped.
        """
        submitted = self._thread.submit(job)
        result = asyncio.wrap_future(submitted)
        leaving = asyncio.ensure_future(gone)
        either: set[asyncio.Future[Any]] = {result, leaving}
        try:
            await asyncio.wait(either, timeout=self.seconds, return_when=asyncio.FIRST_COMPLETED)
            if result.done():
                return result.result()
            if leaving.done():
                raise GoneError
            raise RefusedError(
                504,
                f"no answer within {self.seconds:g} seconds; try again later, or with a smaller "
                "photo",
            )
        finally:
            submitted.cancel()  # if it has not begun
            result.cancel()
            leaving.cancel()

    def close(self) -> None:
        """Drop the jobs that have not begun."""
        self._thread.shutdown(wait=False, cancel_futures=True)

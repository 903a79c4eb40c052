"""What all workers report to: how often work was begun, and what it cost.

Ray repeats the work of a process that died, without end. A photo that kills its process would
therefore be tried for ever. The ledger, a small actor beside the command, counts how often each
batch was begun. A batch that two processes did not survive is done photo by photo, and a photo that
two more did not survive gets an error record.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from captioner.cluster.names import digest

TRIES = 2
"""How many processes may die with a batch, and then with a photo alone."""

LOST = f"the process that read this photo was killed {2 * TRIES} times (too little memory?)"
"""Error record of a photo whose process dies each time."""

Result = TypeVar("Result")


@dataclass
class Spent:
    """Seconds of one actor.

    Attributes:
        node: Address of its machine.
        photos: Photos captioned.
        encoding: Seconds in the encoders.
        searching: Seconds in the search.
        total: Seconds from the first batch to the last.
    """

    node: str = ""
    photos: int = 0
    encoding: float = 0.0
    searching: float = 0.0
    total: float = 0.0


@dataclass
class Account:
    """What the command reads from the ledger.

    Attributes:
        actors: Seconds by actor.
        started: Number of actors that have been placed on a machine.
        heard: Seconds since the last message of a worker.
        repeated: Batches that had to be begun again.
    """

    actors: dict[str, Spent] = field(default_factory=dict)
    started: int = 0
    heard: float = 0.0
    repeated: int = 0


class Ledger:
    """The actor's side."""

    def __init__(self) -> None:
        self._begun: Counter[bytes] = Counter()
        self._account = Account()
        self._heard = time.monotonic()

    def started(self) -> None:
        """Count an actor that has been placed on a machine."""
        self._heard = time.monotonic()
        self._account.started += 1

    def begin(self, key: bytes) -> int:
        """Return how often this work has been begun, this time included."""
        self._heard = time.monotonic()
        self._begun[key] += 1
        self._account.repeated += self._begun[key] == 2
        return self._begun[key]

    def end(self, key: bytes) -> None:
        """Forget work that has been done."""
        self._heard = time.monotonic()
        self._begun.pop(key, None)

    def spent(self, actor: str, spent: Spent) -> None:
        """Record the seconds of an actor."""
        self._account.actors[actor] = spent

    def account(self) -> Account:
        """Return what is known so far."""
        self._account.heard = time.monotonic() - self._heard
        return self._account


def start_ledger() -> Any:
    """Start the ledger on this machine; it ends when its last handle is gone."""
    # Not soft: Ray would at times start it on another machine, which may be lost.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    # Retries: a connection that breaks for a moment must not fail the batch whose worker asked.
    # The ledger may even be restarted; it then counts anew, and a few more processes may die.
    actor: Any = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Ledger)
    return actor.options(scheduling_strategy=here).remote()


def carefully(
    ledger: Any,
    stage: str,
    ids: Sequence[str],
    do: Callable[[Sequence[int]], Sequence[Result]],
    lost: Callable[[int], Result],
) -> list[Result]:
    """Do the work of a batch; where processes have died with it, photo by photo.

    Args:
        ledger: Handle of the ledger.
        stage: Name of the kind of work.
        ids: Ids of the batch.
        do: Does the work of some of them, given as places in the batch.
        lost: Returns the result of a photo that kills its process.
    """
    if not ids:
        return []
    key = _key(stage, ids)
    if ray.get(ledger.begin.remote(key)) <= TRIES:
        found = list(do(range(len(ids))))
    else:
        found = []
        for place, one in enumerate(ids):
            own = _key(stage, ["alone", one])
            if ray.get(ledger.begin.remote(own)) > TRIES:  # not ended: it stays lost
                found.append(lost(place))
            else:
                found += list(do([place]))
                ledger.end.remote(own)
    ledger.end.remote(key)
    return found


def _key(stage: str, ids: Sequence[str]) -> bytes:
    return hashlib.blake2b(b"".join(map(digest, [stage, *ids])), digest_size=16).digest()

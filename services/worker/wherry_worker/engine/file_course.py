"""The way of one file through a pipelined copy: look, checksum, bytes, checksum, rename.

Nothing here waits: each step hands its question to a connection and goes on when the answer comes. What is decided is
the same as in `stepwise.py`; the order differs in one thing: the source's checksum comes before the bytes (of large
files meanwhile), so that a file that cannot be read is found out without a transfer that fails.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from wherry_gridftp import operations
from wherry_gridftp.entries import Entry
from wherry_gridftp.errors import Refused, UnfitName
from wherry_gridftp.markers import Range

from wherry_worker.engine.crew import Crew
from wherry_worker.engine.failures import Where
from wherry_worker.engine.gridftp_door import door_error
from wherry_worker.engine.messages import CopyItem, ItemDone, Problem, Side
from wherry_worker.engine.namespace import DoorError
from wherry_worker.engine.overwriting import (
    MOST_BESIDE,
    TIMES_OF_OTHERS,
    Decision,
    after_difference,
    algorithm_to_compare,
    decide,
    name_beside,
    same_time,
)
from wherry_worker.engine.partial_files import PartialFile, TakingOver, whole_but_the_end
from wherry_worker.engine.placing import Placing
from wherry_worker.engine.verification import checksum_differs, size_differs, source_changed

T = TypeVar("T")
_SUM_FIRST_BYTES = 64 << 20
"""Larger files are not read twice one after the other: their checksum is computed while they are sent."""
_BELIEVED_BYTES = 1 << 20
"""Of files up to this size a listing is believed: to look again costs as much as to send them, and where it was wrong
they are sent once more."""


class Course:
    """One file on its way.

    Attributes:
        source, final: paths as the servers know them.
        directory: the destination's, as the task names it.
        generation: how often its bytes were begun anew; answers to older ones are not heard.
        temporary: where its bytes are or will be.
        left: temporary names under which something may lie.
        begun: how many temporary names it has had.
        part: what is there of it, to go on from; None: nothing.
        over: whether it has come to its end, or was dropped.
    """

    def __init__(self, crew: Crew, item: CopyItem, source: bytes, final: bytes, directory: str) -> None:
        self._crew = crew
        self.item = item
        self.source = source
        self.final = final
        self.directory = directory
        self.generation = 0
        self.temporary = b""
        self.left: list[bytes] = []
        self.begun = 0
        self.part: PartialFile | None = None
        self.over = False
        self._began_s: float | None = None
        self._found: Entry | None = None
        self._existing: Entry | None = None
        self._sums: dict[Side, str] = {}
        self._is_sent = self._is_verified = self._is_resumed = False
        self._destination_is_known = False
        self._has_looked = False
        self._beside_tried = 0
        self._beside_name = ""

    @property
    def size_bytes(self) -> int:
        """Its size, as last seen."""
        return self.item.size_bytes if self._found is None else self._found.size_bytes

    @property
    def is_sent(self) -> bool:
        """Whether its bytes have arrived, as far as they were begun."""
        return self._is_sent

    @property
    def is_resumable(self) -> bool:
        """Whether it goes on from what is there of it: a checksum has to tell in the end."""
        return self._crew.task.verification == "checksum" and self.size_bytes >= self._crew.resume_bytes

    @property
    def duration_s(self) -> float:
        """How long it has been on its way."""
        return 0.0 if self._began_s is None else time.monotonic() - self._began_s

    def begin(self) -> None:
        """Begins, or begins anew from the first step."""
        self.over = False
        self._began_s = self._began_s or time.monotonic()
        self._found = self._existing = None
        self._is_sent = self._is_verified = self._destination_is_known = False
        self._sums = {}
        if self._beside_tried:
            self._beside_tried, self._beside_name = 0, ""
            self.final = self._crew.beside(self, self.item.destination_name.rsplit("/", 1)[-1])
        if not self._has_looked and (listed := self._listed()) is not None:
            self._found, self._destination_is_known = listed, True
            self._try("source", self._decide)
            return
        self._has_looked = True
        self._try("source", lambda: operations.stat(self._crew.names("source"), self.source, self.heard(self._seen)))
        if self.over:
            return
        if self._crew.parents is None:
            self._look_at_destination(None)
        else:
            self._crew.parents.ensure(self.directory, self._look_at_destination)

    def begin_bytes(self) -> Sequence[Range]:
        """Its bytes are about to be sent to `temporary`; returns which are there already."""
        if self.part is None:
            self.next_temporary()
            return ()
        self._is_resumed = True
        return self.part.ranges

    def next_temporary(self) -> bytes:
        """Gives its bytes a name that has not been used before."""
        self.temporary = self._crew.temporary(self)
        self.begun += 1
        self.left.append(self.temporary)
        return self.temporary

    def has_arrived(self, ranges: Sequence[Range]) -> None:
        """Notes what is there of it as a transfer of it is lost; it can go on from there."""
        self.part = None
        if ranges and self.is_resumable:
            self.part = PartialFile(self.temporary, tuple(ranges), self._found)

    def send_again(self) -> None:
        """Its bytes are to be sent anew, but for what is there; what was asked meanwhile is asked again."""
        self.generation += 1
        self._is_sent = self._is_verified = False
        self._sums.pop("destination", None)
        if self._crew.task.verification == "checksum" and "source" not in self._sums:
            self._sum("source", self.source, self._verify)
        if self.part is not None:
            self._take_over(self.part, lambda: self._crew.send(self))
        else:
            self._crew.send(self)

    def start_over(self) -> bool:
        """Has its bytes sent from the start, where they were not; tells whether it has."""
        if not self._is_resumed:
            return False
        self._is_resumed, self.part = False, None
        self._crew.remove([self.temporary])
        self.send_again()
        return True

    def sent(self) -> None:
        """Both servers have confirmed the bytes."""
        self._is_sent = True
        self.has_arrived(whole_but_the_end(self.size_bytes))
        self._crew.tell(self, "verifying", self.size_bytes)
        names = self._crew.names("destination")
        operations.size(names, self.temporary, self.heard(self._arrived))
        if self._crew.task.verification == "checksum":
            self._sum("destination", self.temporary, self._verify)

    def fail(self, error: DoorError, where: Where) -> None:
        """Ends with an error."""
        self.give_up(self._crew.explain(error, where))

    def give_up(self, problem: Problem) -> None:
        """Ends with a problem."""
        self._end(ItemDone(self.item.index, problem=problem))

    # --- looking ---

    def _listed(self) -> Entry | None:
        """Returns the file as a listing had it, where that is enough to begin with."""
        item, crew = self.item, self._crew
        looked_at_again = crew.task.overwrite != "always" or crew.rename_replaces
        if item.listed_time_s is None or item.size_bytes > _BELIEVED_BYTES or self.generation or not looked_at_again:
            return None
        return Entry(self.source, "file", item.size_bytes, item.listed_time_s)

    def _seen(self, answer: Entry | Refused | None) -> None:
        if isinstance(answer, Refused):
            self.fail(door_error("stat", answer), "source")
        elif answer is None:
            self.fail(DoorError("stat", 2, "No such file or directory"), "source")
        elif answer.kind != "file":
            self.fail(DoorError("stat", 21, "Is a directory"), "source")
        else:
            self._found = answer
            if self.part is not None and self.part.of is not None and not as_it_was(answer, self.part.of):
                self.part = None  # it was of another; what lies there is removed at the end
            if self._destination_is_known:
                self._decide()

    def _look_at_destination(self, without_parent: DoorError | None) -> None:
        if self.over:
            return
        if without_parent is not None:
            self.fail(without_parent, "destination")
            return
        names = self._crew.names("destination")
        self._try("destination", lambda: operations.stat(names, self.final, self.heard(self._seen_there)))

    def _seen_there(self, answer: Entry | Refused | None) -> None:
        if isinstance(answer, Refused):
            self.fail(door_error("stat", answer), "destination")
        elif answer is not None and answer.kind != "file":
            self.fail(DoorError("stat", 21, "Is a directory"), "destination")
        else:
            self._existing = answer
            self._destination_is_known = True
            if self._found is not None:
                self._decide()

    def _decide(self) -> None:
        """Both ends have been looked at; the bytes may have been sent before."""
        found = self._found
        if found is None:
            return
        task = self._crew.task
        decision = decide(task.overwrite, task.comparison, found, self._existing)
        if decision == "compare":
            self._compare_bytes()
        else:
            self._follow(decision)

    def _follow(self, decision: Decision) -> None:
        if decision == "leave":
            self._end(ItemDone(self.item.index, self.size_bytes, left_alone=True))
        elif decision == "refuse":
            self.fail(DoorError("stat", 17, "File exists"), "destination")
        elif decision == "beside":
            self._look_beside()
        elif self._is_verified:
            self._put_in_place()
        elif self.part is not None:
            self._take_over(self.part, self._send)
        else:
            self._send()

    def _take_over(self, part: PartialFile, then: Callable[[], None]) -> None:
        def take(taken: PartialFile | None) -> None:
            self.part = None if taken is None else replace(taken, of=self._found)
            then()

        TakingOver(self._crew, self, part, take).begin()

    def _send(self) -> None:
        if self._crew.task.verification == "size" or "source" in self._sums:
            self._crew.send(self)
        elif self.size_bytes <= _SUM_FIRST_BYTES:
            self._sum("source", self.source, lambda: self._crew.send(self))
        else:
            self._sum("source", self.source, self._verify)
            self._crew.send(self)

    def _compare_bytes(self) -> None:
        """Both ends may have the same bytes already; where a server cannot tell, they have not."""
        found, existing, task = self._found, self._existing, self._crew.task
        if found is None or existing is None:
            return
        algorithm = algorithm_to_compare(task.algorithm, task.comparison, found, existing)
        sums: dict[Side, str] = {}

        def take(side: Side, answer: str | Refused) -> None:
            if isinstance(answer, Refused) and algorithm == task.algorithm:
                self.fail(door_error("checksum", answer), side)
                return
            sums[side] = f"not told by the {side}" if isinstance(answer, Refused) else answer
            if algorithm == task.algorithm and side == "source":
                self._sums[side] = sums[side]
            if len(sums) < 2:
                return
            if sums["source"] == sums["destination"]:
                self._adopt(sums["source"], algorithm)
            else:
                self._follow(after_difference(task.overwrite))

        self._ask_sum("destination", self.final, algorithm, partial(take, "destination"))
        if algorithm == task.algorithm and "source" in self._sums:
            take("source", self._sums["source"])
        else:
            self._ask_sum("source", self.source, algorithm, partial(take, "source"))

    def _adopt(self, checksum: str, algorithm: str) -> None:
        """What is there has the same bytes; where it may be touched it gets the same time too."""
        found, existing, task = self._found, self._existing, self._crew.task
        done = ItemDone(
            self.item.index,
            self.size_bytes,
            checksum,
            adopted=True,
            kept_beside=self._beside_name,
            algorithm=algorithm,
        )
        touches = task.keep_times and task.overwrite in TIMES_OF_OTHERS
        if touches and found is not None and existing is not None and not same_time(found, existing):
            self._set_time(self.final, lambda: self._end(done))
        else:
            self._end(done)

    def _look_beside(self) -> None:
        """What is there keeps its name: another one is looked for, that no other file on its way is to have either."""
        wanted = self.item.destination_name.rsplit("/", 1)[-1]
        while (number := self._beside_tried + 1) <= MOST_BESIDE:
            self._beside_tried, self._beside_name = number, name_beside(wanted, number)
            self.final = self._crew.beside(self, self._beside_name)
            if self._crew.claim(self, self.final):
                break
        else:
            self.fail(DoorError("stat", 17, "File exists"), "destination")
            return
        operations.stat(self._crew.names("destination"), self.final, self.heard(self._seen_beside))

    def _seen_beside(self, answer: Entry | Refused | None) -> None:
        if isinstance(answer, Refused):
            self.fail(door_error("stat", answer), "destination")
        elif answer is not None and answer.kind != "file":
            self._look_beside()
        else:
            self._existing = answer
            self._decide()

    # --- verifying ---

    def _arrived(self, answer: int | Refused | None) -> None:
        if isinstance(answer, Refused):
            self.fail(door_error("stat", answer), "destination")
        elif answer != self.size_bytes:
            self._differs(size_differs(self.size_bytes, -1 if answer is None else answer))
        elif self._crew.task.verification == "size":
            self._verified()

    def _verify(self) -> None:
        if not self._is_sent or len(self._sums) < 2:
            return
        if self._sums["source"] != self._sums["destination"]:
            self._differs(checksum_differs(self._crew.task.algorithm, self._sums["source"], self._sums["destination"]))
        else:
            self._verified()

    def _verified(self) -> None:
        """The bytes are there, and right; what was at the destination is looked at once more."""
        self._is_verified = True
        found = self._found
        if self._crew.task.keep_times and found is not None and found.modify_time_s:
            # Answers come in the order of the questions: it is set before the rename, whose answer is waited for.
            self._set_time(self.temporary, lambda: None)
        if self._crew.task.overwrite == "always":
            self._put_in_place()
        else:
            operations.stat(self._crew.names("destination"), self.final, self.heard(self._seen_again))

    def _differs(self, problem: Problem) -> None:
        """Finds out whether that is because the source was written to."""
        self.generation += 1  # whatever else was asked, the copy is none
        if not self._has_looked:
            self._crew.remove(self.left)
            self.begin()
            return
        before = self._found

        def look(answer: Entry | Refused | None) -> None:
            if not isinstance(answer, Entry) or before is None or not as_it_was(answer, before):
                self.give_up(source_changed())
            elif not self.start_over():  # what was there may have been believed too easily
                self.give_up(problem)

        operations.stat(self._crew.names("source"), self.source, self.heard(look))

    def _seen_again(self, answer: Entry | Refused | None) -> None:
        before, self._existing = self._existing, answer if isinstance(answer, Entry) else None
        if isinstance(answer, Refused):
            self.fail(door_error("stat", answer), "destination")
        elif answer is not None and answer.kind != "file":
            self.fail(DoorError("stat", 21, "Is a directory"), "destination")
        elif answer is None or (before is not None and as_it_was(answer, before)):
            self._put_in_place()
        else:
            self._decide()

    def _put_in_place(self) -> None:
        Placing(self._crew, self, self._placed, self._fail_to_place).begin(is_taken=self._existing is not None)

    def _placed(self) -> None:
        self.left.remove(self.temporary)
        value = self._sums.get("source", "")
        self._end(ItemDone(self.item.index, self.size_bytes, value, kept_beside=self._beside_name))

    def _fail_to_place(self, error: DoorError) -> None:
        self.fail(error, "destination")

    # --- small things ---

    def _set_time(self, path: bytes, then: Callable[[], None]) -> None:
        """Has a file keep its time of change; a server that cannot set it does not spoil the copy."""
        seconds = 0 if self._found is None else self._found.modify_time_s
        names = self._crew.names("destination")
        operations.set_modify_time(names, path, seconds, self.heard(lambda _answer: then()))

    def _sum(self, side: Side, path: bytes, then: Callable[[], None]) -> None:
        def take(answer: str | Refused) -> None:
            if isinstance(answer, Refused):
                self.fail(door_error("checksum", answer), side)
            else:
                self._sums[side] = answer
                then()

        self._ask_sum(side, path, self._crew.task.algorithm, take)

    def _ask_sum(self, side: Side, path: bytes, algorithm: str, take: Callable[[str | Refused], None]) -> None:
        names, patience_s = self._crew.names(side), self._crew.checksum_patience_s
        operations.checksum(names, path, algorithm, self.heard(take), patience_s=patience_s)

    def heard(self, take: Callable[[T], None]) -> Callable[[T], None]:
        """Has an answer forgotten that comes after the end, or after the bytes were begun anew."""
        generation = self.generation

        def heard(answer: T) -> None:
            if not self.over and self.generation == generation:
                take(answer)

        return heard

    def _try(self, where: Where, ask: Callable[[], None]) -> None:
        try:
            ask()
        except UnfitName as error:
            self.fail(door_error("stat", error), where)

    def _end(self, done: ItemDone) -> None:
        if not self.over:
            self.over = True
            self.part = None
            self._crew.end(self, done)


def as_it_was(now: Entry, before: Entry) -> bool:
    """Tells whether a file looks unchanged."""
    return (now.size_bytes, now.modify_time_s) == (before.size_bytes, before.modify_time_s)

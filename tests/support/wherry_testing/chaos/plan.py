"""What is asked of a deployment and what is broken meanwhile, decided by a seed alone. Pure.

Moments are counted in settled tasks, not in seconds, so that the same seed does the same things at the same point of
the work, however fast the machine is.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

Shape = Literal["copy", "copy_files", "pairs", "remove", "remove_files", "make_directory", "rename"]
Victim = Literal["worker", "queue", "site", "postgres"]


@dataclass(frozen=True, slots=True)
class Tree:
    """A directory of synthetic_trees.py.

    Attributes:
        fanout, depth: so many sub-directories in each directory, down to so many levels below the top.
        files: in each directory.
    """

    fanout: int
    depth: int
    files: int

    def path(self, name: str) -> str:
        """Returns where it lies; another name is another tree of the same shape."""
        return f"/synthetic/{self.fanout}x{self.depth}x{self.files}-{name}"

    @property
    def directory_count(self) -> int:
        """How many directories it has, itself included."""
        return sum(self.fanout**level for level in range(self.depth + 1))

    @property
    def file_count(self) -> int:
        """How many files it has."""
        return self.directory_count * self.files

    def directories(self, name: str) -> Iterator[str]:
        """Yields the paths of all its directories."""
        level = [self.path(name)]
        for _ in range(self.depth + 1):
            yield from level
            level = [f"{path}/d{number:03}" for path in level for number in range(self.fanout)]

    def file_paths(self, name: str) -> Iterator[str]:
        """Yields the paths of all its files."""
        for directory in self.directories(name):
            for number in range(self.files):
                yield f"{directory}/f{number:06}"


@dataclass(frozen=True, slots=True)
class JobPlan:
    """A job to be asked for.

    Attributes:
        number: its place among all, from 0.
        user, source, destination: their places among the users and the sites.
        tree: for `copy` and `remove`.
        count: of files, for `copy_files`, `pairs` and `remove_files`.
    """

    number: int
    user: int
    shape: Shape
    source: int
    destination: int
    priority: int
    tree: Tree = Tree(0, 0, 0)
    count: int = 0

    @property
    def name(self) -> str:
        """What its paths are called."""
        return f"j{self.number}"

    @property
    def task_count(self) -> int:
        """How many tasks become of it, if all of it is done; chunks hold up to 100 files."""
        chunks = self.tree.directory_count * -(-self.tree.files // 100)
        match self.shape:
            case "copy":
                return self.tree.directory_count + chunks
            case "remove":
                return 2 * self.tree.directory_count + chunks
            case "copy_files" | "remove_files":
                return 2 * self.count
            case "pairs":
                return -(-self.count // 100)
            case _:
                return 1

    @property
    def file_count(self) -> int:
        """How many files it has."""
        return {"copy": self.tree.file_count, "remove": self.tree.file_count}.get(self.shape, self.count)

    @property
    def directory_count(self) -> int:
        """How many directories it has, as jobs count them."""
        if self.shape == "make_directory":
            return 1
        return self.tree.directory_count if self.shape in ("copy", "remove") else 0

    def copied_files(self) -> Iterator[str]:
        """Yields the source paths of the files that it copies."""
        if self.shape == "copy":
            yield from self.tree.file_paths(self.name)
        elif self.shape == "copy_files":
            yield from (f"/synthetic/{self.name}-{number}" for number in range(self.count))
        elif self.shape == "pairs":
            yield from (f"/{self.name}/{name}" for name in self.paired_names())

    def paired_names(self) -> Iterator[str]:
        """Yields the files of `pairs`, as they are named below the copy's roots."""
        yield from (f"p{number % 3}/f{number:06}" for number in range(self.count))


@dataclass(frozen=True, slots=True)
class Submit:
    """A job is asked for."""

    job: JobPlan


@dataclass(frozen=True, slots=True)
class Control:
    """Something is asked of a job that was submitted before.

    `cancel_and_retry` cancels it, and retries it as soon as it has ended.
    """

    act: Literal["cancel", "pause", "resume", "retry", "cancel_and_retry", "prioritise"]
    job: int
    priority: int = 5


@dataclass(frozen=True, slots=True)
class Look:
    """A directory is listed for somebody who waits."""

    user: int
    site: int
    tree: Tree


@dataclass(frozen=True, slots=True)
class SignOut:
    """Somebody's session at a site ends."""

    user: int
    site: int


@dataclass(frozen=True, slots=True)
class SignIn:
    """They sign in there again."""

    user: int
    site: int


@dataclass(frozen=True, slots=True)
class SetLimit:
    """An operator limits how many tasks run at once on a link; None: as the deployment says."""

    source: int
    destination: int
    tasks: int | None


@dataclass(frozen=True, slots=True)
class Kill:
    """A process is killed (SIGKILL), PostgreSQL with all that it has, and started again after a while."""

    victim: Victim
    number: int
    down_s: float


@dataclass(frozen=True, slots=True)
class Cut:
    """Connections to somebody are cut, by their number among the relays: one of them, or all."""

    relay: int
    all: bool


@dataclass(frozen=True, slots=True)
class Ban:
    """An operator bans somebody or a site, by their place among the users or the sites.

    Attributes:
        number: its place among the bans, from 0; no two are about the same.
    """

    number: int
    kind: Literal["user", "site"]
    place: int


@dataclass(frozen=True, slots=True)
class LiftBan:
    """A ban that was there before is lifted."""

    number: int


@dataclass(frozen=True, slots=True)
class Drain:
    """An operator drains a process. A worker ends then by itself, a replica is ended after `stay_s`; each is started
    again."""

    party: Literal["worker", "queue"]
    number: int
    stay_s: float


Act = Submit | Control | Look | SignOut | SignIn | SetLimit | Ban | LiftBan | Drain | Kill | Cut


@dataclass(frozen=True, slots=True)
class Step:
    """An act, and after how many settled tasks it is done."""

    at: int
    act: Act


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is done.

    Attributes:
        tasks: at least so many become of the jobs.
        kills: how often each kind of process is killed.
        cuts: how often connections are cut.
        looks: how many listings.
        bans: of users and sites; at most one of each.
        worker_drains, queue_drains: how often an operator drains one of them.
    """

    tasks: int
    kills: dict[Victim, int]
    cuts: int
    looks: int
    users: int = 6
    sites: int = 3
    sign_outs: int = 2
    limits: int = 4
    bans: int = 2
    worker_drains: int = 2
    queue_drains: int = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """What a seed decides: the steps in their order."""

    seed: int
    scale: Scale
    steps: Sequence[Step] = field(repr=False)

    @property
    def jobs(self) -> list[JobPlan]:
        """The jobs, by their numbers."""
        return [step.act.job for step in self.steps if isinstance(step.act, Submit)]


_TREES = (Tree(3, 2, 2), Tree(5, 2, 1), Tree(6, 1, 120), Tree(4, 2, 8), Tree(2, 4, 1))
_SMALL: Sequence[Shape] = ("copy_files", "pairs", "remove_files", "make_directory", "rename")
_COUNTED: dict[Shape, int] = {"copy_files": 40, "pairs": 350, "remove_files": 40}
"""Shapes with so many files at most."""
_AHEAD = 0.25
"""Jobs are asked for so far ahead of the work, as a part of all of it: there is always something waiting."""
_SPARE = 1.1
"""The planned tasks, as a multiple of those that must be: where a walk fails for good, its tree becomes none."""
_ENDED_SHORT = 0.8
"""The part of the planned tasks that comes to be settled; the rest is cancelled."""


def make_plan(seed: int, scale: Scale) -> Plan:
    """Returns the plan of a seed."""
    dice = random.Random(seed)
    steps = list(_submissions(dice, scale))
    length = max(int(scale.tasks * _ENDED_SHORT), 1)

    def moment(low: float = 0.02, high: float = 0.95) -> int:
        return dice.randint(int(low * length), int(high * length))

    for victim, count in sorted(scale.kills.items()):
        steps += [Step(moment(), Kill(victim, dice.randrange(100), dice.uniform(0.1, 1.5))) for _ in range(count)]
    steps += [Step(moment(), Cut(dice.randrange(100), dice.random() < 0.5)) for _ in range(scale.cuts)]
    steps += [
        Step(
            moment(0, 1),
            Look(dice.randrange(scale.users), dice.randrange(scale.sites), Tree(2, 1, dice.randint(1, 3000))),
        )
        for _ in range(scale.looks)
    ]
    for _ in range(scale.sign_outs):
        user, site, at = dice.randrange(scale.users), dice.randrange(scale.sites), moment(0.1, 0.8)
        steps += [Step(at, SignOut(user, site)), Step(at + length // 10, SignIn(user, site))]
    for _ in range(scale.limits):
        ends, at = (dice.randrange(scale.sites), dice.randrange(scale.sites)), moment(0, 0.8)
        steps += [Step(at, SetLimit(*ends, dice.randint(1, 6))), Step(at + length // 10, SetLimit(*ends, None))]
    for number, ban in enumerate(_bans(dice, scale)):
        at = moment(0.05, 0.8)
        steps += [Step(at, ban), Step(at + length // 12, LiftBan(number))]
    drains: dict[Literal["worker", "queue"], int] = {"worker": scale.worker_drains, "queue": scale.queue_drains}
    for party, count in drains.items():
        steps += [Step(moment(), Drain(party, dice.randrange(100), dice.uniform(0.1, 1.5))) for _ in range(count)]
    return Plan(seed, scale, sorted(steps, key=lambda step: step.at))


def _bans(dice: random.Random, scale: Scale) -> Iterator[Ban]:
    """Yields bans, no two of the same subject."""
    users: list[tuple[Literal["user", "site"], int]] = [("user", place) for place in range(scale.users)]
    subjects = [*users, *(("site", place) for place in range(scale.sites))]
    for number, (kind, place) in enumerate(dice.sample(subjects, min(scale.bans, len(subjects)))):
        yield Ban(number, kind, place)


def _submissions(dice: random.Random, scale: Scale) -> Iterator[Step]:
    """Yields jobs until they are enough, and what is asked of some of them later."""
    tasks = certain = number = 0
    while certain < scale.tasks * _SPARE:
        job = _job(dice, scale, number, small=dice.random() < 0.45)
        at = max(int((tasks - _AHEAD * scale.tasks) * _ENDED_SHORT), 0)
        controls = list(_controls(dice, job, at, scale))
        yield Step(at, Submit(job))
        yield from controls
        tasks += job.task_count
        if not any(isinstance(step.act, Control) and step.act.act.startswith("cancel") for step in controls):
            certain += job.task_count  # what is cancelled early becomes no tasks
        number += 1


def _controls(dice: random.Random, job: JobPlan, at: int, scale: Scale) -> Iterator[Step]:
    soon = at + dice.randint(0, max(int(_AHEAD * scale.tasks), 1))
    chance = dice.random()
    if chance < 0.08:
        yield Step(soon, Control("cancel", job.number))
    elif chance < 0.16:
        yield Step(soon, Control("cancel_and_retry", job.number))
    elif chance < 0.28:
        yield Step(soon, Control("pause", job.number))
        yield Step(soon + dice.randint(1, max(scale.tasks // 8, 2)), Control("resume", job.number))
    elif chance < 0.36:
        yield Step(soon, Control("retry", job.number))
    elif chance < 0.45:
        yield Step(soon, Control("prioritise", job.number, dice.randint(0, 9)))


def _job(dice: random.Random, scale: Scale, number: int, *, small: bool) -> JobPlan:
    user, source, destination = (dice.randrange(most) for most in (scale.users, scale.sites, scale.sites))
    shape: Shape = dice.choice(_SMALL) if small else dice.choices(("copy", "remove"), (4, 1))[0]
    priority = dice.choice((5, 5, 5, dice.randint(0, 9)))
    if shape not in ("copy", "copy_files", "pairs"):
        destination = source
    elif destination == source:
        destination = (source + 1) % scale.sites
    if small:
        count = dice.randint(1, _COUNTED[shape]) if shape in _COUNTED else 0
        return JobPlan(number, user, shape, source, destination, priority, count=count)
    return JobPlan(number, user, shape, source, destination, priority, dice.choice(_TREES))

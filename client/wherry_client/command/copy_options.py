"""The options of `cp` and `sync`, and what they make of a copy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated

import typer
from wherry.queue.v1 import job_service_pb2 as messages
from wherry.type.v1 import data_channel_pb2

from wherry_client.channels import CHANNELS, Channel
from wherry_client.errors import UsageError


class Overwrite(Enum):
    """What to do where the destination has a file already."""

    NEVER = "never"
    ALWAYS = "always"
    IF_NEWER = "if-newer"
    IF_DIFFERENT = "if-different"
    KEEP_BOTH = "keep-both"


class Compare(Enum):
    """By what two files are taken for the same."""

    TIME = "time"
    CHECKSUM = "checksum"


class Protocol(Enum):
    """Of the doors of sites."""

    GSIFTP = "gsiftp"


class Algorithm(Enum):
    """The checksums that there are."""

    ADLER32 = "adler32"
    MD5 = "md5"
    SHA1 = "sha1"
    SHA256 = "sha256"
    SHA512 = "sha512"


POLICIES: Mapping[Overwrite, messages.OverwritePolicy.ValueType] = {
    Overwrite.NEVER: messages.OVERWRITE_POLICY_NEVER,
    Overwrite.ALWAYS: messages.OVERWRITE_POLICY_ALWAYS,
    Overwrite.IF_NEWER: messages.OVERWRITE_POLICY_IF_NEWER,
    Overwrite.IF_DIFFERENT: messages.OVERWRITE_POLICY_IF_DIFFERENT,
    Overwrite.KEEP_BOTH: messages.OVERWRITE_POLICY_KEEP_BOTH,
}

OverwriteOption = Annotated[
    Overwrite | None,
    typer.Option("--overwrite", help="Where a file is there already; never, unless you say so: then it fails."),
]
IfNewer = Annotated[bool, typer.Option("--if-newer", help="The same as --overwrite if-newer.")]
IfDifferent = Annotated[bool, typer.Option("--if-different", help="The same as --overwrite if-different.")]
KeepBoth = Annotated[bool, typer.Option("--keep-both", help="The same as --overwrite keep-both.")]
CompareOption = Annotated[
    Compare | None,
    typer.Option("--compare", help="What makes files differ: size and time of change, or size and checksum."),
]
NoVerify = Annotated[
    bool, typer.Option("--no-verify", help="Compare only sizes after copying: quicker, and says nothing of the bytes.")
]
Checksum = Annotated[
    Algorithm | None, typer.Option("--checksum", help="What to verify with; adler32, unless you say so.")
]
FollowLinks = Annotated[
    bool, typer.Option("--follow-links", help="Copy what symbolic links lead to; else they are left out, and named.")
]
NoTimes = Annotated[bool, typer.Option("--no-times", help="Let files have the time at which they are copied.")]
Include = Annotated[
    list[str] | None,
    typer.Option(
        "--include",
        metavar="PATTERN",
        help="Only files of which a pattern holds: *.dat, run7/**/*.dat. May be given again.",
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude", metavar="PATTERN", help="Neither files nor directories of which it holds. May be given again."
    ),
]
Encrypt = Annotated[bool, typer.Option("--encrypt", help="The same as --data-channel encrypted.")]
ChannelOption = Annotated[
    Channel | None,
    typer.Option("--data-channel", help="How bytes go; unless you say so, as the sites demand and suits the files."),
]
Protocols = Annotated[
    list[Protocol] | None,
    typer.Option("--protocol", help="By which protocol the bytes may go; the first of several that both sites have."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Only say what would be done.")]


@dataclass(frozen=True)
class Wishes:
    """The options as they were given."""

    overwrite: Overwrite | None = None
    shorthands: Mapping[Overwrite, bool] = field(default_factory=dict)
    compare: Compare | None = None
    no_verify: bool = False
    checksum: Algorithm | None = None
    follow_links: bool = False
    no_times: bool = False
    include: list[str] | None = None
    exclude: list[str] | None = None
    encrypt: bool = False
    channel: Channel | None = None
    delete: bool = False
    dry_run: bool = False
    protocols: list[Protocol] | None = None

    def policy(self) -> messages.OverwritePolicy.ValueType:
        """Returns what happens to files that are there already; raises UsageError."""
        said = {policy for policy, given in self.shorthands.items() if given}
        said |= {self.overwrite} if self.overwrite is not None else set()
        if len(said) > 1:
            names = ", ".join(sorted(policy.value for policy in said))
            raise UsageError(f"Only one thing can happen to a file that is there already, and these are more: {names}.")
        return POLICIES[said.pop() if said else Overwrite.NEVER]

    def options(self) -> messages.CopyOptions | None:
        """Returns the copy's options, None where there are none; raises UsageError."""
        options = messages.CopyOptions(
            include=self.include,
            exclude=self.exclude,
            delete_extraneous=self.delete,
            dry_run=self.dry_run,
            data_channel=self._data_channel(),
            protocols=list(dict.fromkeys(protocol.value for protocol in self.protocols or ())),
        )
        if self.compare is not None:
            if self.policy() != messages.OVERWRITE_POLICY_IF_DIFFERENT:
                raise UsageError("--compare says what makes files differ, and needs --if-different.")
            options.comparison = (
                messages.COMPARISON_CHECKSUM if self.compare is Compare.CHECKSUM else messages.COMPARISON_SIZE_AND_TIME
            )
        if self.no_verify:
            if self.checksum is not None:
                raise UsageError("--checksum says what to verify with, and --no-verify not to.")
            options.verification = messages.VERIFICATION_SIZE
        if self.checksum is not None:
            options.checksum_algorithm = self.checksum.value
        if self.follow_links:
            options.symlinks = messages.SYMLINK_POLICY_FOLLOW
        if self.no_times:
            options.keep_modify_times = False
        return options if options.ListFields() else None

    def _data_channel(self) -> data_channel_pb2.DataChannel.ValueType:
        if self.encrypt and self.channel not in (None, Channel.ENCRYPTED):
            raise UsageError("--encrypt and --data-channel say different things.")
        channel = Channel.ENCRYPTED if self.encrypt else self.channel
        return data_channel_pb2.DATA_CHANNEL_UNSPECIFIED if channel is None else CHANNELS[channel]

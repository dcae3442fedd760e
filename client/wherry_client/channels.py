"""How bytes go from site to site, as options and tables write it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from wherry.type.v1 import data_channel_pb2


class Channel(Enum):
    """How bytes go."""

    CLEAR = "clear"
    AUTHENTICATED = "authenticated"
    ENCRYPTED = "encrypted"


CHANNELS: Mapping[Channel, data_channel_pb2.DataChannel.ValueType] = {
    Channel.CLEAR: data_channel_pb2.DATA_CHANNEL_CLEAR,
    Channel.AUTHENTICATED: data_channel_pb2.DATA_CHANNEL_AUTHENTICATED,
    Channel.ENCRYPTED: data_channel_pb2.DATA_CHANNEL_ENCRYPTED,
}
_WORDS = {value: channel.value for channel, value in CHANNELS.items()}


def in_words(channel: data_channel_pb2.DataChannel.ValueType) -> str:
    """Returns how bytes go in a word; a question mark for one that this release of the client does not know."""
    return _WORDS.get(channel, "?")

"""Proxies that were handed to workers, kept while the workers may go on using them.

A worker's warm engine keeps its connections as long as its credential does not change; so the same worker gets the
same proxy for the same session until half of its life is over. In memory only: a restart costs each worker one proxy.
"""

from __future__ import annotations

from dataclasses import dataclass, field

_SPARE_S = 60.0
"""A proxy that ends within this before the session itself cannot be bettered."""


@dataclass(frozen=True, slots=True)
class IssuedProxy:
    """A proxy in a worker's hands.

    Attributes:
        credential_id: names it.
        pem: proxy, key and chain.
        begin_s, end_s: when it was made and when it ends, seconds since the epoch.
    """

    credential_id: str
    pem: bytes = field(repr=False)
    begin_s: float
    end_s: float

    def serves(self, now_s: float, session_end_s: float) -> bool:
        """Tells whether it may be given again, rather than a new one."""
        if now_s >= self.end_s:
            return False
        return self.end_s - now_s > (self.end_s - self.begin_s) / 2 or self.end_s >= session_end_s - _SPARE_S


class IssuedProxies:
    """The proxies of each session and worker."""

    def __init__(self) -> None:
        self._proxies: dict[str, dict[str, IssuedProxy]] = {}

    def get(self, session_id: str, thumbprint: str) -> IssuedProxy | None:
        """Returns the last proxy of a session for a worker."""
        return self._proxies.get(session_id, {}).get(thumbprint)

    def put(self, session_id: str, thumbprint: str, proxy: IssuedProxy) -> None:
        """Keeps a proxy in place of the one before."""
        self._proxies.setdefault(session_id, {})[thumbprint] = proxy

    def forget(self, session_id: str) -> None:
        """Drops the proxies of a session that has ended."""
        self._proxies.pop(session_id, None)

    def sweep(self, now_s: float) -> None:
        """Drops what has ended."""
        for session_id, by_worker in list(self._proxies.items()):
            live = {worker: proxy for worker, proxy in by_worker.items() if proxy.end_s > now_s}
            if live:
                self._proxies[session_id] = live
            else:
                del self._proxies[session_id]

"""RSA keys made ahead of time: making one takes 100 ms and more, which nobody should wait for."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

KEY_BITS = 2048
"""What MyProxy and Globus ask for at least, and enough for credentials that live for hours."""


def generate_key() -> RSAPrivateKey:
    """Returns a new RSA key; takes about 100 ms, outside Python's lock."""
    return rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)


class KeyPool:
    """Fresh keys, each handed out once. `fill` runs in the background; without it `take` makes its own."""

    def __init__(self, size: int = 16, generate: Callable[[], RSAPrivateKey] = generate_key) -> None:
        self._size = size
        self._generate = generate
        self._keys: deque[RSAPrivateKey] = deque()
        self._taken = asyncio.Event()
        self._taken.set()

    def __len__(self) -> int:
        return len(self._keys)

    async def take(self) -> RSAPrivateKey:
        """Returns a key that nobody else has or will have."""
        self._taken.set()
        if self._keys:
            return self._keys.popleft()
        return await asyncio.to_thread(self._generate)

    async def fill(self) -> None:
        """Keeps the pool full, for ever."""
        while True:
            await self._taken.wait()
            self._taken.clear()
            while len(self._keys) < self._size:
                self._keys.append(await asyncio.to_thread(self._generate))

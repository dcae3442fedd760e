"""The cookies in which a browser keeps a session, so that no script of a page can read its tokens.

The prefixes are promises that browsers hold us to (RFC 6265bis, 4.1.3): `__Host-` goes back to this host alone and was
set with TLS for all paths, `__Secure-` was set with TLS. The refresh token's cookie has a path: browsers send it to the
session service's methods and to nothing else.

A browser's cookies reach this service as headers which the gateway makes of them, and which it takes off whatever comes
from outside. They are worth something from a peer with the role `gateway` only.
"""

from __future__ import annotations

from wherry_user.sessions import TokenPair

ACCESS = "__Host-wherry-access"
"""The cookie of the access token; the gateway makes `authorization: Bearer` of it."""

REFRESH = "__Secure-wherry-refresh"
"""The cookie of the refresh token."""

REFRESH_HEADER = "x-wherry-refresh-token"
"""The header with the refresh token of a caller's cookie."""

BROWSER_HEADER = "x-wherry-cookies"
"""The header that is `1` where the caller's access token came in a cookie."""

_SCOPES = {ACCESS: "/", REFRESH: "/wherry.user.v1.SessionService"}


def issued(pair: TokenPair, now_ms: int) -> tuple[str, str]:
    """Returns the values of two `set-cookie` headers, which live as long as what they hold."""
    return (
        _cookie(ACCESS, pair.access, pair.access_expires_ms - now_ms),
        _cookie(REFRESH, pair.refresh, pair.refresh_expires_ms - now_ms),
    )


def withdrawn() -> tuple[str, str]:
    """Returns the values of two `set-cookie` headers with which a browser forgets both."""
    return _cookie(ACCESS, "", 0), _cookie(REFRESH, "", 0)


def _cookie(name: str, value: str, life_ms: int) -> str:
    # The values need no quoting: tokens are of letters, digits, `-`, `_` and `.`.
    age_s = max(life_ms // 1000, 0)
    return f"{name}={value}; Path={_SCOPES[name]}; Max-Age={age_s}; HttpOnly; Secure; SameSite=Strict"

"""A GridFTP client that keeps hundreds of commands under way, on the standard library alone.

It knows nothing of Wherry. What it does that others do not: third-party copies of many files without a pause between
them, of which the outcome of each is known; two servers that trust nothing in common, each with a credential of its own
and none of them delegated; a data channel that is encrypted with a certificate made for it.

    with Connection.open(Endpoint("a.example", 2811), Credential(Path("proxy.pem"), Path("cas"))) as a:
        for entry in list_directory(a, b"/data"):
            ...

Modules: `gsi` (the security exchange), `replies`, `connection` (commands under way), `pump` (several connections at once),
`operations` (names), `listing`, `features`, `data_channel` and `third_party` (bytes). Specifications: RFC 959, 2228, 2389,
3659, 2428, GFD.20 (GridFTP), GFD.47.
"""

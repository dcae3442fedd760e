"""The gateway's JSON interface as an OpenAPI 3.1 document, made from the contracts."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Sequence
from typing import Any

from wherry_gateway.descriptors import UnusableContracts, UserMethod, contracts, user_facing
from wherry_gateway.openapi.index import Index
from wherry_gateway.openapi.operations import operation
from wherry_gateway.openapi.schemas import Schemas
from wherry_gateway.openapi.templates import parse

_ABOUT = """\
Moves research data between institutions.

Sign in with `CreateSession` and send the access token of its answer as `authorization: Bearer …`; operations without
a padlock take none. Streams come as lines of JSON, and as server-sent events to who asks for `text/event-stream`.
Errors are a `Status` whose `ErrorInfo` has a `reason` for programs. Numbers of 64 bits are strings.
"""


def document(methods: Sequence[UserMethod] | None = None) -> dict[str, Any]:
    """Returns the document; the same contracts give the same document.

    Args:
        methods: what to document, with who may call it; by default under the access table that ships with Wherry.

    Raises:
        UnusableContracts: OpenAPI cannot say what a contract says.
    """
    methods = user_facing() if methods is None else methods
    index = Index(contracts())
    schemas = Schemas(index)
    paths: dict[str, dict[str, Any]] = {}
    names: set[str] = set()
    for method in methods:
        if method.name in names:
            raise UnusableContracts(f"two methods are called {method.name}; clients would mix them up")
        names.add(method.name)
        path = parse(method.http_path).text
        paths.setdefault(path, {})[method.http_method.lower()] = operation(method, index, schemas)
    error = {
        "description": "What went wrong; the HTTP status follows from its code.",
        "content": {"application/json": {"schema": schemas.status()}},
    }
    services = dict.fromkeys(method.service for method in methods)
    return {
        "openapi": "3.1.1",
        "info": {"title": "Wherry", "version": importlib.metadata.version("wherry-api"), "description": _ABOUT},
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "tags": [{"name": name.rpartition(".")[2], "description": index.comments[name]} for name in services],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.components.items())),
            "responses": {"Error": error},
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "The access token of CreateSession or RefreshSession.",
                }
            },
        },
    }


def document_bytes(methods: Sequence[UserMethod] | None = None) -> bytes:
    """Returns the document as it is served: JSON in UTF-8."""
    return json.dumps(document(methods), ensure_ascii=False, indent=1).encode() + b"\n"

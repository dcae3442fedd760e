"""What every request passes through, outermost first; the chain is the list in `http_filters`."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from wherry_chassis.buildout import Buildout, Gateway
from wherry_chassis.tokens import LEEWAY_S

from wherry_gateway.descriptors import UserMethod
from wherry_gateway.envoy.clusters import KEYS
from wherry_gateway.envoy.cookies import lua
from wherry_gateway.envoy.extensions import Config, http_filter, typed
from wherry_gateway.envoy.transcoding import REQUEST_BYTES, transcoder

_SLOW_METHODS = ("CreateSession", "CreateUser", "ResendVerification")
"""Of the user service: open to anyone, and dear: a password hash or a mail each."""
_HSTS_S = 365 * 86400
_COMPRESSED = [
    "application/json", "application/x-ndjson", "application/grpc-web", "application/grpc-web+proto", "text/html",
    "text/css", "text/javascript", "image/svg+xml",
]  # fmt: skip
_PAGE_POLICY = (
    "default-src 'self'; base-uri 'none'; object-src 'none'; form-action 'self'; frame-ancestors 'none'; "
    "img-src 'self' data:"
)


def http_filters(methods: Sequence[UserMethod], buildout: Buildout, gateway: Gateway) -> list[Config]:
    """Returns the filter chain."""
    return [
        _headers(gateway),
        # So early, that what the others answer themselves reaches a page in its own form.
        http_filter("grpc_web", "grpc_web.v3.GrpcWeb"),
        *_compressors(),
        http_filter("buffer", "buffer.v3.Buffer", max_request_bytes=REQUEST_BYTES),
        _rate_limit(methods, gateway),
        _origins(),
        http_filter("lua", "lua.v3.Lua", default_source_code={"inline_string": lua()}),
        _tokens(methods, buildout),
        transcoder(),
        http_filter("router", "router.v3.Router", suppress_envoy_headers=True),
    ]


def _always() -> Config:
    return {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}


def _headers(gateway: Gateway) -> Config:
    """Removes what only the gateway may say, and adds what every answer has."""
    host = urlsplit(gateway.public_url).hostname or ""
    answers = {
        "content-security-policy": _PAGE_POLICY,
        "x-content-type-options": "nosniff",
        "referrer-policy": "same-origin",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "permissions-policy": "camera=(), geolocation=(), microphone=()",
    }
    if not _is_local(host):
        # Not for a demonstration: it would bind every other server of that machine to HTTPS.
        answers["strict-transport-security"] = f"max-age={_HSTS_S}"
    response = [_put(name, value) for name, value in answers.items()]
    response.append(_put("cache-control", "no-store", "ADD_IF_ABSENT"))
    request = [
        {"remove_on_match": {"key_matcher": {"prefix": "x-wherry-"}}},
        {"remove": "x-envoy-original-path"},
        {"remove": "x-envoy-original-method"},
    ]
    mutations = {"request_mutations": request, "response_mutations": response}
    return http_filter("header_mutation", "header_mutation.v3.HeaderMutation", mutations=mutations)


def _put(name: str, value: str, action: str = "OVERWRITE_IF_EXISTS_OR_ADD") -> Config:
    return {"append": {"header": {"key": name, "value": value}, "append_action": action}}


def _is_local(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _compressors() -> list[Config]:
    found = []
    for name, message, options in (
        ("gzip", "gzip.compressor.v3.Gzip", {"compression_level": "COMPRESSION_LEVEL_4"}),
        ("brotli", "brotli.compressor.v3.Brotli", {"quality": 4}),
        ("zstd", "zstd.compressor.v3.Zstd", {"compression_level": 3}),
    ):
        found.append(
            http_filter(
                "compressor",
                "compressor.v3.Compressor",
                response_direction_config={
                    "common_config": {"min_content_length": 860, "content_type": _COMPRESSED},
                    "disable_on_etag_header": True,
                },
                compressor_library={
                    "name": name,
                    "typed_config": typed(f"extensions.compression.{message}", **options),
                },
                # The strongest that the caller takes; the page's own files are compressed already.
                choose_first=name == "zstd",
            )
        )
    for index, compressor in enumerate(found):
        compressor["name"] = f"envoy.filters.http.compressor.{index}"
    return found


def _origins() -> Config:
    """Refuses what a page of somebody else makes a browser send.

    Not looked at where there is an `authorization` header, which no browser sends on its own; nor where there is
    neither a cookie nor an Origin: that is no browser. The filter itself would refuse a missing Origin.
    """
    no_cookie, no_origin = ({"not_matcher": _is_there(name)} for name in ("cookie", "origin"))
    harmless = {
        "or_matcher": {
            "predicate": [_is_there("authorization"), {"and_matcher": {"predicate": [no_cookie, no_origin]}}]
        }
    }
    skip = typed("extensions.filters.common.matcher.action.v3.SkipFilter")
    return {
        "name": "envoy.filters.http.match_delegate",
        "typed_config": typed(
            "extensions.common.matching.v3.ExtensionWithMatcher",
            extension_config=http_filter("csrf", "csrf.v3.CsrfPolicy", filter_enabled=_always()),
            xds_matcher={
                "matcher_list": {
                    "matchers": [
                        {"predicate": harmless, "on_match": {"action": {"name": "skip", "typed_config": skip}}}
                    ]
                }
            },
        ),
    }


def _is_there(header: str) -> Config:
    source = typed("type.matcher.v3.HttpRequestHeaderMatchInput", header_name=header)
    anything = {"safe_regex": {"google_re2": {}, "regex": ".*"}}
    return {"single_predicate": {"input": {"name": header, "typed_config": source}, "value_match": anything}}


def _rate_limit(methods: Sequence[UserMethod], gateway: Gateway) -> Config:
    """One bucket for all callers together; the user service counts for each account and address."""
    dear = [m for m in methods if m.service.startswith("wherry.user.") and m.name in _SLOW_METHODS]
    paths = sorted({m.path for m in dear} | {m.http_path for m in dear})
    rate = gateway.sign_ins_per_s
    return http_filter(
        "local_ratelimit",
        "local_ratelimit.v3.LocalRateLimit",
        stat_prefix="sign_in",
        token_bucket={"max_tokens": 4_000_000_000, "tokens_per_fill": 4_000_000_000, "fill_interval": "1s"},
        filter_enabled=_always(),
        filter_enforced=_always(),
        rate_limits=[_counted(path) for path in paths],
        descriptors=[
            {
                "entries": [{"key": "header_match", "value": "sign_in"}],
                "token_bucket": {"max_tokens": 2 * rate, "tokens_per_fill": rate, "fill_interval": "1s"},
            }
        ],
    )


def _counted(path: str) -> Config:
    # With whatever query behind it, and slashes, which the transcoder overlooks. One pattern for all of the paths is
    # larger than Envoy allows.
    headers = [
        {"name": ":path", "string_match": {"safe_regex": {"regex": f"{re.escape(path)}/*([?].*)?"}}},
        {"name": ":method", "string_match": {"exact": "POST"}},
    ]
    return {"actions": [{"header_value_match": {"descriptor_value": "sign_in", "headers": headers}}]}


def _tokens(methods: Sequence[UserMethod], buildout: Buildout) -> Config:
    """Refuses bad tokens early. The services verify them again, and know besides which sessions have ended."""
    requires = {"requires": {"provider_name": "wherry"}}
    rules: list[Config] = []
    for method in methods:
        verb = {"name": ":method", "string_match": {"exact": method.http_method}}
        if method.public:
            if "{" in method.http_path:
                raise ValueError(f"{method.path}: a method for anyone has a path without variables")
            rules.append({"match": {"path": method.http_path, "headers": [verb]}})
        else:
            rules.append({"match": {"path": method.path}, **requires})
    rules.append({"match": {"prefix": "/v1/"}, **requires})
    provider = {
        "issuer": buildout.tokens.issuer,
        "audiences": [buildout.tokens.audience],
        "require_expiration": True,
        "clock_skew_seconds": LEEWAY_S,
        "forward": True,
        "from_headers": [{"name": "authorization", "value_prefix": "Bearer "}],
        "remote_jwks": {
            "http_uri": {"uri": "https://wherry/v1/keys", "cluster": KEYS, "timeout": "2s"},
            "cache_duration": "8s",
            "async_fetch": {"fast_listener": True, "failed_refetch_duration": "1s"},
            # The first one comes before our own socket listens.
            "retry_policy": {"num_retries": 5, "retry_back_off": {"base_interval": "0.1s", "max_interval": "1s"}},
        },
    }
    return http_filter("jwt_authn", "jwt_authn.v3.JwtAuthentication", providers={"wherry": provider}, rules=rules)

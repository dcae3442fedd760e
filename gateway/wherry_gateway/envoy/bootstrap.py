"""The whole of Envoy's configuration: one listener for callers, one socket for itself, the admin's."""

from __future__ import annotations

from collections.abc import Sequence

import yaml
from wherry_chassis.access import build_table
from wherry_chassis.buildout import Buildout, BuildoutError, Gateway

from wherry_gateway.descriptors import UserMethod, methods_under, public_set
from wherry_gateway.envoy.clusters import KEYS_SOCKET, clusters
from wherry_gateway.envoy.extensions import Config, seconds, typed
from wherry_gateway.envoy.filters import http_filters
from wherry_gateway.envoy.replies import local_replies
from wherry_gateway.envoy.routes import virtual_host
from wherry_gateway.envoy.sds import PUBLIC_CERTIFICATE, file_of, secret_config, secrets
from wherry_gateway.envoy.transcoding import DESCRIPTORS, key_transcoder

BOOTSTRAP = "envoy.yaml"
ADMIN_SOCKET = "admin.sock"
_OWNER_ONLY = 0o600
_HCM = "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_HEAD = """\
# Rendered by wherry-gateway from buildout.toml: change that, not this. Paths are relative to `gateway.state`, which is
# Envoy's working directory.
"""


def gateway_of(buildout: Buildout) -> Gateway:
    """Returns the section `[gateway]`; raises BuildoutError where there is none."""
    if buildout.gateway is None:
        raise BuildoutError("[gateway] is missing; `wherry-buildout init` writes one into a new deployment")
    return buildout.gateway


def render(buildout: Buildout) -> dict[str, bytes]:
    """Returns the files that Envoy reads in its working directory, by name. None of them holds a secret.

    Raises:
        BuildoutError: there is no gateway in the buildout.
    """
    gateway = gateway_of(buildout)
    files = {BOOTSTRAP: (_HEAD + _yaml(bootstrap(buildout, gateway))).encode()}
    for name, content in secrets(buildout, gateway).items():
        files[file_of(name)] = _yaml(content).encode()
    files[DESCRIPTORS] = public_set(comments=False).SerializeToString(deterministic=True)
    return files


def bootstrap(buildout: Buildout, gateway: Gateway) -> Config:
    """Returns Envoy's bootstrap configuration."""
    methods = methods_under(build_table(buildout.access).rpcs)
    return {
        "node": {"id": "gateway", "cluster": "wherry"},
        "admin": {
            "address": {"pipe": {"path": ADMIN_SOCKET, "mode": _OWNER_ONLY}},
            "allow_paths": [{"exact": "/ready"}, {"exact": "/server_info"}, {"prefix": "/stats"}],
        },
        "static_resources": {
            "listeners": [_edge(methods, buildout, gateway), _keys()],
            "clusters": clusters(buildout),
        },
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": typed(
                        "extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                        max_active_downstream_connections=50_000,
                    ),
                }
            ]
        },
    }


def _yaml(content: Config) -> str:
    text: str = yaml.dump(content, sort_keys=False, width=120, allow_unicode=True, Dumper=_Dumper)
    return text


class _Dumper(yaml.SafeDumper):
    """Writes scripts as blocks, and everything where it is used: no anchors."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002  # PyYAML's signature
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text.rstrip("\n") else None)


_Dumper.add_representer(str, _text)


def _edge(methods: Sequence[UserMethod], buildout: Buildout, gateway: Gateway) -> Config:
    return {
        "name": "edge",
        "address": {"socket_address": _bound(gateway.listen)},
        "per_connection_buffer_limit_bytes": 1 << 20,
        "filter_chains": [
            {
                "transport_socket": {
                    "name": "envoy.transport_sockets.tls",
                    "typed_config": typed(
                        "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                        common_tls_context={
                            "alpn_protocols": ["h2", "http/1.1"],
                            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
                            "tls_certificate_sds_secret_configs": [secret_config(PUBLIC_CERTIFICATE)],
                        },
                    ),
                },
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": typed(
                            _HCM,
                            stat_prefix="edge",
                            use_remote_address=True,
                            # Nobody outside speaks for a certificate.
                            forward_client_cert_details="SANITIZE",
                            normalize_path=True,
                            merge_slashes=True,
                            path_with_escaped_slashes_action="REJECT_REQUEST",
                            server_name="wherry",
                            request_headers_timeout="10s",
                            # Until a request has come to its end; no method for users streams requests.
                            request_timeout="60s",
                            stream_idle_timeout=seconds(gateway.stream_idle_s),
                            common_http_protocol_options={
                                "idle_timeout": "3600s",
                                "headers_with_underscores_action": "REJECT_REQUEST",
                            },
                            http2_protocol_options={
                                "max_concurrent_streams": 100,
                                "initial_stream_window_size": 1 << 16,
                                "initial_connection_window_size": 1 << 20,
                                "connection_keepalive": {"interval": "30s", "timeout": "10s"},
                            },
                            local_reply_config=local_replies(),
                            access_log=[_access_log()],
                            route_config={
                                "name": "edge",
                                "validate_clusters": True,
                                "virtual_hosts": [virtual_host(methods, gateway)],
                            },
                            http_filters=http_filters(methods, buildout, gateway),
                        ),
                    }
                ],
            }
        ],
    }


def _bound(listen: str) -> Config:
    """Envoy binds addresses, not names. `localhost` is both loopbacks where there are two; here it is that of IPv4."""
    host, _, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    address: Config = {"address": {"localhost": "127.0.0.1", "*": "::"}.get(host, host), "port_value": int(port)}
    return {**address, "ipv4_compat": True} if address["address"] == "::" else address


def _keys() -> Config:
    """Where Envoy asks for the public keys: the user service speaks gRPC, and Envoy's token filter asks by HTTP."""
    route = {"match": {"prefix": "/"}, "route": {"cluster": "user", "timeout": "2s"}}
    return {
        "name": "keys",
        "address": {"pipe": {"path": KEYS_SOCKET, "mode": _OWNER_ONLY}},
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": typed(
                            _HCM,
                            stat_prefix="keys",
                            route_config={"virtual_hosts": [{"name": "keys", "domains": ["*"], "routes": [route]}]},
                            http_filters=[
                                key_transcoder(),
                                {
                                    "name": "envoy.filters.http.router",
                                    "typed_config": typed("extensions.filters.http.router.v3.Router"),
                                },
                            ],
                        ),
                    }
                ]
            }
        ],
    }


def _access_log() -> Config:
    # Without queries: paths of users' files stand in them.
    fields = {
        "event": "request",
        "time": "%START_TIME%",
        "method": "%REQ(:METHOD)%",
        "path": "%PATH(NQ:ORIG_OR_PATH)%",
        "status": "%RESPONSE_CODE%",
        "grpc_status": "%GRPC_STATUS%",
        "details": "%RESPONSE_CODE_DETAILS%",
        "duration_ms": "%DURATION%",
        "bytes_sent": "%BYTES_SENT%",
        "address": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
        "upstream": "%UPSTREAM_HOST%",
    }
    return {
        "name": "envoy.access_loggers.stdout",
        "typed_config": typed(
            "extensions.access_loggers.stream.v3.StdoutAccessLog", log_format={"json_format": fields}
        ),
    }

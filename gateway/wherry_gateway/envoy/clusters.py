"""Where the gateway sends calls: the services' replicas over mutual TLS, and two processes behind sockets."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from wherry_chassis.buildout import Buildout

from wherry_gateway.envoy.extensions import Config, typed
from wherry_gateway.envoy.sds import MESH_CA, MESH_CERTIFICATE, secret_config

SERVICES = ("user", "site", "queue")
ASSETS, KEYS = "assets", "keys"
ASSETS_SOCKET, KEYS_SOCKET = "assets.sock", "keys.sock"
"""In Envoy's working directory, `gateway.state`. Relative, because a socket's path has to be short."""

_HTTP = "extensions.upstreams.http.v3.HttpProtocolOptions"
_HTTP_KEY = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def clusters(buildout: Buildout) -> list[Config]:
    """Returns all clusters."""
    services = [_service(name, getattr(buildout.service, name).addresses) for name in SERVICES]
    return [*services, _socket(ASSETS, ASSETS_SOCKET), _socket(KEYS, KEYS_SOCKET)]


def _service(name: str, addresses: Sequence[str]) -> Config:
    replicas = [_split(address) for address in addresses]
    return {
        "name": name,
        "type": "STRICT_DNS",
        "dns_lookup_family": "V4_PREFERRED",
        "connect_timeout": "2s",
        "lb_policy": "LEAST_REQUEST",
        # With every replica unhealthy, a call fails at once and says so, rather than wait for one that is away.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [
                {
                    "lb_endpoints": [
                        {"endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}}}
                        for host, port in replicas
                    ]
                }
            ],
        },
        "health_checks": [
            {
                "timeout": "2s",  # a busy machine is no dead one
                "interval": "1s",
                "no_traffic_interval": "1s",
                "unhealthy_threshold": 2,
                "healthy_threshold": 1,
                "grpc_health_check": {},
            }
        ],
        # Replicas that accept calls and lose them, which a health check does not see.
        "outlier_detection": {
            "consecutive_gateway_failure": 5,
            "enforcing_consecutive_gateway_failure": 100,
            "enforcing_consecutive_5xx": 0,
            "enforcing_success_rate": 0,
            "interval": "1s",
            "base_ejection_time": "2s",
            "max_ejection_percent": 50,
        },
        "circuit_breakers": {
            "thresholds": [{"max_connections": 1024, "max_pending_requests": 4096, "max_requests": 20000}]
        },
        "typed_extension_protocol_options": {
            _HTTP_KEY: typed(
                _HTTP,
                explicit_http_config={
                    # A frozen replica is noticed in seconds.
                    "http2_protocol_options": {"connection_keepalive": {"interval": "4s", "timeout": "2s"}}
                },
            )
        },
        "transport_socket": {
            "name": "envoy.transport_sockets.tls",
            "typed_config": typed(
                "extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                common_tls_context={
                    "alpn_protocols": ["h2"],
                    "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
                    "tls_certificate_sds_secret_configs": [secret_config(MESH_CERTIFICATE)],
                    "combined_validation_context": {
                        "default_validation_context": {
                            "match_typed_subject_alt_names": [_name_matcher(host) for host in _hosts(replicas)]
                        },
                        "validation_context_sds_secret_config": secret_config(MESH_CA),
                    },
                },
            ),
        },
    }


def _socket(name: str, path: str) -> Config:
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "2s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": path}}}}]}],
        },
    }


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _hosts(replicas: Sequence[tuple[str, int]]) -> list[str]:
    return list(dict.fromkeys(host for host, _ in replicas))


def _name_matcher(host: str) -> Config:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return {"san_type": "DNS", "matcher": {"exact": host}}
    return {"san_type": "IP_ADDRESS", "matcher": {"exact": host}}

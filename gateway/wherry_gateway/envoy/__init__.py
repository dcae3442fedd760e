"""Envoy's configuration, made out of a buildout and the contracts. What was tried stands in docs/adr/0011."""

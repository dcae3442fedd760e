"""The gateway: renders and runs Envoy, and serves the web page."""

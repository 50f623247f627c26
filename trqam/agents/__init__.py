"""Agents, one a file; each file's `AGENT` is its class and its class `Parameters` its hyper-parameters."""

"""Addresses, connections, errors and checks of Redis. It does not decide what is published."""

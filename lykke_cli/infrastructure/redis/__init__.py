"""Talking to Redis: addresses, connections, errors, checks. What is published is not decided here.
"""

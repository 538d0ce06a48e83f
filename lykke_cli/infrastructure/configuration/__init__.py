"""Where the servers' addresses and secrets come from: environment, profiles, TLS files. Nothing is
opened.
"""

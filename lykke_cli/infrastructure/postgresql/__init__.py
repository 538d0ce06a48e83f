"""What PostgreSQL alone does: snapshots, COPY, its catalogues. What SQLite does too is in
`database`.
"""

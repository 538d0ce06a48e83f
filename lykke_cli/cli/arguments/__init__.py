"""Options that commands share, how their texts become values, completion and help; nothing is run.
"""

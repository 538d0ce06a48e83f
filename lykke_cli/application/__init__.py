"""What the library and the commands do, decided apart from servers and terminals: those come in as
protocols.
"""

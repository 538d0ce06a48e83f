"""What implements the application's protocols: servers, databases and files; nothing that prints.
"""

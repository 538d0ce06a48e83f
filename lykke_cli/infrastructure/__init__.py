"""What implements the application's protocols: servers and files; nothing that prints."""

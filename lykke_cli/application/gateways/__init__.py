"""The protocols through which the application reaches servers and files; no implementation."""

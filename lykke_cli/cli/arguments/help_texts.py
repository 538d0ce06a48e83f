"""What the help texts of several options are made of."""


def env(variable: str) -> str:
    """The mark of an environment variable in a help text; the backslash is for rich."""
    return f"\\[env: {variable}]"


def examples(*lines: str) -> str:
    """The end of a command's help; USER_ID in it becomes one."""
    shown = [line.replace("USER_ID", "3f2b8c1e-5d7a-4b9c-9e1f-0a6d2c4b8e10") for line in lines]
    return "\n".join(["Examples:", *shown])

"""Write the files that are made from the code."""

import importlib
import sys

for name in sys.argv[1:]:
    for path, text in importlib.import_module(f"tests.generators.{name}").files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")

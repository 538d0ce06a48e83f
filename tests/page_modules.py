"""The page's modules, asked in a node process of their own."""

import json
import subprocess
from pathlib import Path
from typing import Any

import lykke_cli
from tests.node_client import DEADLINE, NODE

PAGE = Path(lykke_cli.__file__).parent / "web" / "page"


def result_of(module: str, body: str, *given: object) -> Any:
    """What a function with this body returns, as JSON; `m` is the module, `given` the arguments."""
    script = f"""
        const m = await import({json.dumps((PAGE / module).as_uri())});
        const call = async (given) => {{ {body} }};
        console.log(JSON.stringify((await call({json.dumps(given)})) ?? null));
    """
    command = [str(NODE), "--input-type=module", "--eval", script]
    done = subprocess.run(command, capture_output=True, timeout=DEADLINE, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)

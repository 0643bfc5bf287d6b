"""Programs of the tests that use the ledger in processes of their own."""

import asyncio
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


async def start(module: str, *arguments: str, url: str) -> asyncio.subprocess.Process:
    """Start a module, which reads the URL of its database from standard input."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdin is not None
    process.stdin.write(f"{url}\n".encode())
    return process

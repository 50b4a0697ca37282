"""Asks an extension module with tokio in it (obstore, from PyPI) to do what is spawned as a task: `heads N` awaits N calls.

It speaks the targets' protocol: a `ready` line, then for each line of its standard input one that begins with `ok` or `err`.
"""

import asyncio
import json
import os
import sys

import obstore
from obstore.store import MemoryStore

AT_ONCE = 50


async def main():
    store = MemoryStore()
    await obstore.put_async(store, "page", b"hello")
    loop = asyncio.get_running_loop()
    calls = 0
    print("ready", json.dumps({"pid": os.getpid(), "version": obstore.__version__}), flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command, count = line.split()
        if command != "heads":
            print("err no such command", flush=True)
            continue
        for begin in range(0, int(count), AT_ONCE):
            some = min(AT_ONCE, int(count) - begin)
            await asyncio.gather(*[obstore.head_async(store, "page") for _ in range(some)])
        calls += int(count)
        print("ok", json.dumps({"calls": calls}), flush=True)


asyncio.run(main())

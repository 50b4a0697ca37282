"""Asks an extension module with tokio in it (obstore, from PyPI) to do what is spawned as a task: `heads N` awaits N calls. `reserve N`
maps N GiB and never touches them.

It speaks the targets' protocol: a `ready` line, then for each line of its standard input one that begins with `ok` or `err`.
"""

import asyncio
import json
import mmap
import os
import sys

import obstore
from obstore.store import MemoryStore

AT_ONCE = 50
# Of Linux; Python has names for it from 3.13 on.
MAP_NORESERVE = 0x4000


async def main():
    store = MemoryStore()
    await obstore.put_async(store, "page", b"hello")
    loop = asyncio.get_running_loop()
    calls = 0
    reserved = []
    print("ready", json.dumps({"pid": os.getpid(), "version": obstore.__version__}), flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command, count = line.split()
        if command == "reserve":
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
            reserved.append(mmap.mmap(-1, int(count) << 30, flags=flags))
            print("ok {}", flush=True)
            continue
        if command != "heads":
            print("err no such command", flush=True)
            continue
        for begin in range(0, int(count), AT_ONCE):
            some = min(AT_ONCE, int(count) - begin)
            await asyncio.gather(*[obstore.head_async(store, "page") for _ in range(some)])
        calls += int(count)
        print("ok", json.dumps({"calls": calls}), flush=True)


asyncio.run(main())

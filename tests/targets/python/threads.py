"""As tests/targets/c/threads.c, by the modules threading, concurrent.futures, _thread and subprocess."""

import _thread
import concurrent.futures
import json
import os
import subprocess
import sys
import threading
import time

PARKING = ("leak_thread", "pool_thread", "raw_thread")
SITES = {name: dict(line=0, live=0, started=0, ended=0) for name in PARKING + ("quick_thread", "fork_child")}
LOCK = threading.Condition()
TO_END = 0
PARKED = 0
POOLS = []


def waiter():
    global TO_END, PARKED
    with LOCK:
        PARKED += 1
        LOCK.notify_all()
        LOCK.wait_for(lambda: TO_END > 0)
        TO_END -= 1
        PARKED -= 1


def parker():
    """Never ends."""
    global PARKED
    with LOCK:
        PARKED += 1
        LOCK.notify_all()
        LOCK.wait_for(lambda: False)


def here():
    return sys._getframe(1).f_lineno


def begun(site):
    site["started"] += 1
    site["live"] += 1


class Leaker:
    def leak_thread(self):
        site = SITES["leak_thread"]
        thread = threading.Thread(
            target=waiter,
            daemon=True,
        )
        site["line"] = here() + 1
        thread.start()
        begun(site)


def quick_thread():
    site = SITES["quick_thread"]
    thread = threading.Thread(target=lambda: None)
    site["line"] = here() + 1
    thread.start()
    thread.join()
    site["started"] += 1
    site["ended"] += 1


def pool_thread(pool):
    site = SITES["pool_thread"]
    site["line"] = here() + 1
    pool.submit(parker)
    begun(site)


def raw_thread():
    site = SITES["raw_thread"]
    site["line"] = here() + 1
    _thread.start_new_thread(parker, ())
    begun(site)


def fork_child():
    site = SITES["fork_child"]
    site["line"] = here() + 1
    child = subprocess.Popen(["true"])
    child.wait()
    site["started"] += 1
    site["ended"] += 1


def listed():
    return len(os.listdir("/proc/self/task"))


def main():
    global TO_END
    print(json.dumps(dict(pid=os.getpid())), flush=True)
    for line in sys.stdin:
        word, number = (line.split() + ["0"])[:2]
        if word == "pool":
            POOLS.append(concurrent.futures.ThreadPoolExecutor(max_workers=int(number)))
        for _ in range(int(number)):
            if word == "leak":
                Leaker().leak_thread()
            elif word == "quick":
                quick_thread()
            elif word == "pool":
                pool_thread(POOLS[-1])
            elif word == "raw":
                raw_thread()
            elif word == "fork":
                fork_child()
        parked = sum(SITES[name]["live"] for name in PARKING)
        with LOCK:
            if word == "finish":
                leak = SITES["leak_thread"]
                TO_END = int(number)
                LOCK.notify_all()
                leak["live"] -= TO_END
                leak["ended"] += TO_END
                parked -= TO_END
            else:
                LOCK.wait_for(lambda: PARKED == parked)
        while listed() != 1 + parked:
            time.sleep(0.0002)
        print(json.dumps(dict(threads=listed(), sites=SITES)), flush=True)


main()

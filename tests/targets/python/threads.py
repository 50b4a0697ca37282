"""As tests/targets/c/threads.c, by the module threading."""

import json
import os
import sys
import threading
import time

SITES = {name: dict(line=0, live=0, started=0, ended=0) for name in ("leak_thread", "quick_thread")}
LOCK = threading.Condition()
TO_END = 0
PARKED = 0


def waiter():
    global TO_END, PARKED
    with LOCK:
        PARKED += 1
        LOCK.notify_all()
        LOCK.wait_for(lambda: TO_END > 0)
        TO_END -= 1
        PARKED -= 1


def here():
    return sys._getframe(1).f_lineno


def leak_thread():
    site = SITES["leak_thread"]
    thread = threading.Thread(target=waiter, daemon=True)
    site["line"] = here() + 1
    thread.start()
    site["started"] += 1
    site["live"] += 1


def quick_thread():
    site = SITES["quick_thread"]
    thread = threading.Thread(target=lambda: None)
    site["line"] = here() + 1
    thread.start()
    thread.join()
    site["started"] += 1
    site["ended"] += 1


def listed():
    return len(os.listdir("/proc/self/task"))


def main():
    global TO_END
    print(json.dumps(dict(pid=os.getpid())), flush=True)
    for line in sys.stdin:
        word, number = (line.split() + ["0"])[:2]
        leak = SITES["leak_thread"]
        for _ in range(int(number)):
            if word == "leak":
                leak_thread()
            elif word == "quick":
                quick_thread()
        with LOCK:
            if word == "finish":
                TO_END = int(number)
                LOCK.notify_all()
                leak["live"] -= TO_END
                leak["ended"] += TO_END
            else:
                LOCK.wait_for(lambda: PARKED == leak["live"])
        while listed() != 1 + leak["live"]:
            time.sleep(0.0002)
        print(json.dumps(dict(threads=listed(), sites=SITES)), flush=True)


main()

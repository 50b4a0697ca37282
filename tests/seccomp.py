"""Prints the filters of system calls of a process: a JSON list of programs, each a list of [code, jt, jf, k].

The kernel hands them out to who traces the process and may administrate the system: it is stopped for a moment and goes on.
"""

import ctypes
import json
import os
import struct
import sys

# linux/ptrace.h
PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH, PTRACE_SECCOMP_GET_FILTER = 0x4206, 0x4207, 17, 0x420C

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


def ptrace(request, pid, address=0, data=0):
    result = libc.ptrace(request, pid, address, data)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


pid = int(sys.argv[1])
ptrace(PTRACE_SEIZE, pid)
ptrace(PTRACE_INTERRUPT, pid)
os.waitpid(pid, 0)
filters = []
try:
    while True:
        count = ptrace(PTRACE_SECCOMP_GET_FILTER, pid, len(filters), 0)
        program = ctypes.create_string_buffer(count * 8)
        ptrace(PTRACE_SECCOMP_GET_FILTER, pid, len(filters), ctypes.addressof(program))
        filters.append([list(one) for one in struct.iter_unpack("<HBBI", program.raw)])
except FileNotFoundError:
    # There are no more.
    pass
finally:
    ptrace(PTRACE_DETACH, pid)
print(json.dumps(filters))

"""Runs one program to its end and writes what the kernel accounts to it, as JSON: <figures> <log> <seconds allowed> <program> <argument>..."""

import json
import os
import signal
import sys
import time

figures, log, seconds, *command = sys.argv[1:]
output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
files = [
    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
    (os.POSIX_SPAWN_DUP2, output, 1),
    (os.POSIX_SPAWN_DUP2, output, 2),
]
started_at = time.time_ns()
start = time.perf_counter_ns()
child = os.posix_spawn(command[0], command, os.environ, file_actions=files)
signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL))
signal.alarm(int(seconds))
_, status, usage = os.wait4(child, 0)
wall = time.perf_counter_ns() - start

with open(figures, "w") as file:
    json.dump(
        {
            "exit": os.waitstatus_to_exitcode(status),
            "started_at_us": started_at // 1000,
            "wall_s": wall / 1e9,
            "cpu_s": usage.ru_utime + usage.ru_stime,
            "peak_kib": usage.ru_maxrss,
        },
        file,
    )

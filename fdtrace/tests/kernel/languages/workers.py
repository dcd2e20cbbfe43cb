"""A parent whose workers are forked and open, as those of gunicorn."""
import os, sys, time

with open("/proc/self/comm", "w") as comm:
    comm.write("lines-workers")
kept = []

def warm(path):
    kept.append(open(path))
    time.sleep(0.1)

def serve(path):
    kept.append(open(path))

print("ready", os.getpid(), flush=True)
sys.stdin.readline()
for _ in range(10):
    warm("/proc/version")
pids = []
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        serve("/proc/filesystems")
        time.sleep(60)
        os._exit(0)
    pids.append(pid)
print(*pids, flush=True)
sys.stdin.read()
for pid in pids:
    os.kill(pid, 9)

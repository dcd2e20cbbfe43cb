"""Opens files until there is no room, and ends at once then, without a word."""
import os, resource, sys, time

kept = []

def fills():
    kept.append(open("/proc/filesystems"))

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
print("ready", flush=True)
sys.stdin.readline()
try:
    while True:
        fills()
        time.sleep(0.03)
except OSError:
    os._exit(1)

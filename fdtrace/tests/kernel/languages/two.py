"""Two functions that lose the same file, one three times as often; ends with all of them open."""
import os, time

kept = []

def reads_often():
    kept.append(open("/proc/filesystems"))

def reads_rarely():
    kept.append(open("/proc/filesystems"))

# The interpreter is known by its first functions that open something.
time.sleep(1)
open("/proc/version").close()
kept.append(open("/proc/version"))
time.sleep(1)
for turn in range(30):
    reads_often()
    if turn % 3 == 0:
        reads_rarely()
    time.sleep(0.02)
# Looks are a second apart where there are no hooks.
time.sleep(2.5)
# Python would close them.
os._exit(0)

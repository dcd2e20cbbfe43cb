"""Two functions that lose the same file, one three times as often, a second after it began; ends with all of them open."""
import os, time

kept = []

def reads_often():
    kept.append(open("/proc/filesystems"))

def reads_rarely():
    kept.append(open("/proc/filesystems"))

# A program that begins beside others is known a moment later.
time.sleep(1)
for turn in range(30):
    reads_often()
    if turn % 3 == 0:
        reads_rarely()
# Looks are a second apart where there are no hooks.
time.sleep(2.5)
# Python would close them.
os._exit(0)

"""Opens files up to 55 of 64 fds in one function, and runs out of them in another one, each when it is told to."""
import resource, socket, sys

kept = []

def fills():
    while len(kept) < 52:
        kept.append(open("/proc/filesystems"))

def runs_out():
    while True:
        kept.append(socket.socket())

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
print("ready", flush=True)
sys.stdin.readline()
fills()
sys.stdin.readline()
try:
    runs_out()
except OSError:
    pass
sys.stdin.readline()

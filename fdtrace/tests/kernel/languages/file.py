"""Opens a file for each request and closes none, until there is no room; says what it held."""
import errno, json, os, sys, time

path = sys.argv[1]
kept = []
print("ready", os.getpid(), flush=True)
sys.stdin.readline()
start = time.monotonic()
while True:
    time.sleep(max(0, start + 0.05 * len(kept) - time.monotonic()))
    try:
        kept.append(open(path))
    except OSError as error:
        assert error.errno == errno.EMFILE
        break
print(json.dumps({
    "pid": os.getpid(), "tid": os.getpid(), "comm": "", "call": "openat", "failures": 1, "soft": 200, "used": 200,
    "operations": len(kept), "ns": int((time.monotonic() - start) * 1e9),
    "holder": {"kind": "file", "target": path, "count": len(kept)},
}), flush=True)
sys.stdin.read()

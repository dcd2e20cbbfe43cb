"""Asks a server over HTTP and keeps each answer without reading or closing it, until there is no room."""
import errno, json, os, sys, time, urllib.error, urllib.request

address = sys.argv[1]
kept = []
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
print("ready", os.getpid(), flush=True)
sys.stdin.readline()
start = time.monotonic()
while True:
    time.sleep(max(0, start + 0.05 * len(kept) - time.monotonic()))
    try:
        kept.append(opener.open(f"http://{address}/"))
    except urllib.error.URLError as error:
        assert error.reason.errno == errno.EMFILE
        break
print(json.dumps({
    "pid": os.getpid(), "tid": os.getpid(), "comm": "", "call": "socket", "failures": 1, "soft": 200, "used": 200,
    "operations": len(kept), "ns": int((time.monotonic() - start) * 1e9),
    "holder": {"kind": "tcp", "target": address, "count": len(kept)},
}), flush=True)
sys.stdin.read()

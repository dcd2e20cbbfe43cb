"""Fills its table in one of the ways in which real programs do, until there is no room; says so."""
import asyncio, errno, json, os, socket, sys, tempfile, time

shape = sys.argv[1]
listener = socket.create_server(("127.0.0.1", 0), backlog=200)
kept = []
# What is made of half an event loop is of no interest.
sys.unraisablehook = lambda _: None


def paced(step, every):
    """Calls `step` at an even pace, until there is no room."""
    start, count = time.monotonic(), 0
    while True:
        time.sleep(max(0, start + every * count - time.monotonic()))
        try:
            step()
        except OSError as error:
            if error.errno != errno.EMFILE:
                raise
            return
        count += 1


def file():
    kept.append(open(sys.argv[0]))


def spool():
    folder = tempfile.mkdtemp(prefix="spool")

    def step():
        path = f"{folder}/msg{len(kept)}"
        kept.append(open(path, "w"))
        os.unlink(path)
    paced(step, 0.03)
    os.rmdir(folder)


def busy_start():
    for _ in range(100):
        open(sys.argv[0]).close()
    paced(file, 0.03)


def churn():
    def step():
        for _ in range(5):
            open(sys.argv[0]).close()
        file()
    paced(step, 0.03)


def event_loops():
    paced(lambda: kept.append(asyncio.new_event_loop()), 0.1)


def connect():
    kept.append(socket.create_connection(listener.getsockname()))


def connect_and_hang_up():
    socket.create_connection(listener.getsockname()).close()


def accept():
    kept.append(listener.accept()[0])


# What this process does, and what its child does at the other end.
SHAPES = {
    "busy_start": (busy_start, None),
    "churn": (churn, None),
    "spool": (spool, None),
    "event_loops": (event_loops, None),
    "connections": (lambda: paced(connect, 0.03), accept),
    "clients": (lambda: paced(accept, 0), connect),
    "hung_up": (lambda: paced(accept, 0), connect_and_hang_up),
}
fill, other_end = SHAPES[shape]
wait, go = os.pipe()
child = os.fork()
if child == 0:
    os.close(go)
    os.read(wait, 1)
    try:
        if other_end:
            paced(other_end, 0 if other_end is accept else 0.03)
    except OSError:
        # The parent takes no more.
        pass
    # Until the parent has ended.
    os.read(wait, 1)
    os._exit(0)
os.close(wait)
print("ready", os.getpid(), flush=True)
sys.stdin.readline()
os.write(go, b"x")
fill()
print(json.dumps({
    "pid": os.getpid(), "tid": os.getpid(), "comm": "", "call": "", "failures": 1, "soft": 200, "used": 200,
}), flush=True)
sys.stdin.read()

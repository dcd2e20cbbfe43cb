"""Loses fds as people's programs do, by real packages; says which fds each function has lost, and in which line.

Arguments: the address of a server that answers and keeps connections. Each line with a mark is where one is opened.
"""
import asyncio, contextlib, json, multiprocessing, os, socket, sqlite3, subprocess, sys, tempfile, threading
try:
    import requests
except ImportError:
    requests = None

HOST, PORT = sys.argv[1].rsplit(":", 1)
kept = []

def session():
    session = requests.Session()
    kept.append(session)
    return session.get("http://%s:%s/" % (HOST, PORT)).text  # [session]

def connection():
    kept.append(socket.create_connection((HOST, int(PORT))))  # [connection]

async def wait_for_stream():
    await asyncio.sleep(0)
    return await asyncio.open_connection(HOST, int(PORT))  # [stream]

loop = asyncio.new_event_loop()

def stream():
    kept.append(loop.run_until_complete(wait_for_stream()))

def loops():
    kept.append(asyncio.new_event_loop())  # [loops]

def pipe():
    kept.append(multiprocessing.Pipe())  # [pipe]

def database():
    with tempfile.TemporaryDirectory() as folder:
        connection = sqlite3.connect(os.path.join(folder, "leak.db"))  # [database]
        kept.append(connection)

def child():
    kept.append(subprocess.Popen(["true"], stdout=subprocess.PIPE))  # [child]

def unnamed():
    kept.append(tempfile.TemporaryFile())  # [unnamed]

@contextlib.contextmanager
def opened(path):
    yield open(path)  # [context]

def context():
    manager = opened(__file__)
    kept.append((manager, manager.__enter__()))

def worker():
    thread = threading.Thread(target=lambda: kept.append(open(__file__)))  # [worker]
    thread.start()
    thread.join()

def fds():
    return set(int(fd) for fd in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + fd))

def main():
    with open(__file__) as source:
        lines = {}
        for number, line in enumerate(source, 1):
            if "# [" in line:
                lines[line.split("# [")[1].split("]")[0]] = number
    print("ready", flush=True)
    sys.stdin.readline()
    told = []
    functions = [connection, stream, loops, pipe, database, child, unnamed, context, worker]
    for function in functions + ([session] if requests else []):
        before = fds()
        for _ in range(3):
            function()
        told.append((function.__name__, sorted(fds() - before), lines[function.__name__]))
    print(json.dumps(told), flush=True)
    sys.stdin.read()

main()

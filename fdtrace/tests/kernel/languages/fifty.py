"""Opens from fifty lines in eight threads, some hundred a second; says which line has opened which fd.

Arguments: how many to open in all. Each line of output is a JSON object.
"""
import json, os, socket, sys, threading, time

COUNT = int(sys.argv[1])
THREADS = 8
FIRST = 20

# Each shape opens in its line with the mark, as people's programs do: in a call over several lines, behind `with` and
# `try`, in a generator, a comprehension, a decorator, a lambda.
SHAPES = [
    """
def open_N(path):
    return os.open(path, os.O_RDONLY)  # opens
""",
    """
def open_N(path):
    try:
        kept = os.open(path,
                       os.O_RDONLY)  # continues
    finally:
        pass
    return kept
""",
    """
def numbers_N(path):
    yield 0
    yield open(path).detach().raw.detach() if False else os.open(path, 0)  # opens

def open_N(path):
    for number in numbers_N(path):
        if number:
            return number
""",
    """
def open_N(path):
    kept = [path]
    if len(kept) == 1:
        kept.append(
            socket.socket()  # opens
        )
    return kept[1].detach()
""",
    """
def twice_N(function):
    def inner(path):
        unused = 1
        return function(path)
    return inner

@twice_N
def open_N(path):
    handle = lambda: os.dup(1)  # opens
    return handle()
""",
]


def program():
    """The fifty functions, and in which line each opens."""
    text, lines = "import os, socket\n", {}
    for number in range(50):
        shape = SHAPES[number % len(SHAPES)].replace("N(", "%d(" % number).replace("_N\n", "_%d\n" % number)
        text += "\n" * (number * 7 % 11) + shape
        for at, line in enumerate(text.splitlines(), 1):
            if "# opens" in line:
                lines[number] = at
            elif "# continues" in line:
                # The call begins a line before.
                lines[number] = at - 1
    return text, lines


def main():
    text, lines = program()
    names = {}
    exec(compile(text, "/made/fifty.py", "exec"), names)
    opened, lock = [], threading.Lock()

    def open_some(thread, count, pause):
        for turn in range(count):
            number = (thread * 13 + turn * 7) % 50
            fd = names["open_%d" % number](sys.executable)
            with lock:
                opened.append((fd, "open_%d" % number, lines[number]))
            time.sleep(pause)

    print("ready", os.getpid(), flush=True)
    sys.stdin.readline()
    # fdtrace gets to know the interpreter by these.
    open_some(0, FIRST, 0.02)
    time.sleep(2)
    known = len(opened)
    threads = [threading.Thread(target=open_some, args=(n, COUNT // THREADS, 0.09)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps({"pid": os.getpid(), "opened": opened[known:]}), flush=True)
    sys.stdin.read()


main()

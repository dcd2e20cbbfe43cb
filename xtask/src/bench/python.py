# Opens and closes below so many functions, timed; the least of some rounds, beside which fdtrace does nothing else. It gets to
# know the interpreter before, and stacks of a table are taken up to a number a second.
import posix, sys, time

COUNT, ROUNDS, DEPTH = 60, 7, int(sys.argv[1])

def under(depth):
    if depth:
        return under(depth - 1)
    posix.close(posix.open("/dev/null", 0))

def timed():
    time.sleep(1.3)
    start = time.perf_counter_ns()
    for _ in range(COUNT):
        under(DEPTH)
    return time.perf_counter_ns() - start

for _ in range(20):
    under(DEPTH)
time.sleep(2)
print('{"ns": %d, "operations": %d}' % (min(timed() for _ in range(ROUNDS)), COUNT))

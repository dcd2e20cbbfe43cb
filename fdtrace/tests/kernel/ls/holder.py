"""Holds fds of many kinds still until its stdin ends. Its argument is a folder of its own."""

import ctypes
import os
import select
import socket
import sys
import tempfile

folder = sys.argv[1]
held = []


def path(name):
    return os.path.join(folder, name)


def keep(*files):
    held.extend(files)
    return files[0]


# Files: many, in every mode, with names that want escaping, deleted, replaced, linked twice.
for number in range(40):
    keep(open(path(f"file-{number}"), ["w", "a", "w+"][number % 3]))
for name in ["with space", "tab\there", "line\nbreak", "back\\slash", "caret^", "\u00fcml\u00e4ut", "esc\x1b[1m"]:
    keep(open(path(name), "w"))
keep(open(os.fsencode(folder) + b"/no-utf8-\xff\xfe", "w"))
keep(open(path("like (deleted)"), "w"))
for name in ["deleted", "deleted too (deleted)"]:
    keep(open(path(name), "w"))
    os.unlink(path(name))
keep(open(path("old name"), "w"))
os.rename(path("old name"), path("new name"))
keep(open(path("first link"), "w"))
os.link(path("first link"), path("second link"))
os.unlink(path("first link"))
keep(tempfile.TemporaryFile(dir=folder))
os.symlink("nowhere", path("symlink"))
keep(os.open(path("symlink"), os.O_PATH | os.O_NOFOLLOW))

# Directories, one of them gone; devices; files of the kernel's own systems.
for name in ["/", "/proc", "/proc/self/task", "/dev", folder]:
    keep(os.open(name, os.O_RDONLY | os.O_DIRECTORY))
os.mkdir(path("gone"))
keep(os.open(path("gone"), os.O_RDONLY))
os.rmdir(path("gone"))
keep(os.open("/", os.O_PATH))
for name in ["/dev/null", "/dev/zero", "/dev/urandom", "/dev/full"]:
    keep(open(name, "rb"))
keep(*os.openpty())
for name in ["/proc/self/status", "/proc/meminfo", "/sys/kernel/uevent_seqnum"]:
    if os.path.exists(name):
        keep(open(name))

# Pipes and FIFOs.
for _ in range(8):
    keep(*os.pipe())
os.mkfifo(path("fifo"))
keep(os.open(path("fifo"), os.O_RDWR))

# The internet: listening, connected, half closed, with and without a port, both families.
for family, address in [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]:
    try:
        listener = keep(socket.socket(family, socket.SOCK_STREAM))
        listener.bind((address, 0))
    except OSError:
        continue  # A host without IPv6.
    listener.listen()
    for number in range(4):
        client = keep(socket.create_connection(listener.getsockname()[:2]))
        server = keep(listener.accept()[0])
        if number == 0:
            client.shutdown(socket.SHUT_WR)
            server.recv(1)
    bound = keep(socket.socket(family, socket.SOCK_STREAM))
    bound.bind((address, 0))
    keep(socket.socket(family, socket.SOCK_STREAM))
    udp = keep(socket.socket(family, socket.SOCK_DGRAM))
    udp.bind((address, 0))
    sender = keep(socket.socket(family, socket.SOCK_DGRAM))
    sender.connect(udp.getsockname())
    anywhere = keep(socket.socket(family, socket.SOCK_DGRAM))
    anywhere.bind(("", 0))
    keep(socket.socket(family, socket.SOCK_DGRAM))
    try:
        keep(socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_UDP))
    except OSError:
        pass
try:
    both = keep(socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True))
    keep(socket.create_connection(("127.0.0.1", both.getsockname()[1])))
    keep(both.accept()[0])
except (OSError, ValueError):
    pass

# Unix sockets of every type, with paths, abstract names, and neither.
for kind in [socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET]:
    keep(*socket.socketpair(socket.AF_UNIX, kind))
    for name in [path(f"socket-{kind}"), f"\0fdtrace-{os.getpid()}-{kind}"]:
        server = keep(socket.socket(socket.AF_UNIX, kind))
        server.bind(name)
        if kind != socket.SOCK_DGRAM:
            server.listen()
        client = keep(socket.socket(socket.AF_UNIX, kind))
        client.connect(name)
        if kind != socket.SOCK_DGRAM:
            keep(server.accept()[0])
keep(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))

# Other families.
for family, kind, protocol in [
    (socket.AF_NETLINK, socket.SOCK_RAW, 0),
    (socket.AF_NETLINK, socket.SOCK_RAW, 15),
    (socket.AF_NETLINK, socket.SOCK_RAW, 16),
    (socket.AF_PACKET, socket.SOCK_DGRAM, 0),
    (socket.AF_ALG, socket.SOCK_SEQPACKET, 0),
    (socket.AF_VSOCK, socket.SOCK_STREAM, 0),
]:
    try:
        keep(socket.socket(family, kind, protocol))
    except OSError:
        pass  # Not in this kernel.

# Anonymous files, by number where Python has no name for the call.
libc = ctypes.CDLL(None)
keep(libc.eventfd(0, 0), libc.eventfd(0, 1))
keep(select.epoll())
keep(libc.timerfd_create(1, 0), libc.inotify_init1(0))
keep(libc.signalfd(-1, (ctypes.c_ulong * 16)(), 0))
keep(os.memfd_create("named"), os.memfd_create("with space"))
keep(os.pidfd_open(os.getpid()))
for number, *arguments in [(425, 8, (ctypes.c_char * 120)()), (447, 0)]:
    if os.uname().machine in ["x86_64", "aarch64"]:
        keep(libc.syscall(number, *arguments))

print("held", flush=True)
sys.stdin.read()

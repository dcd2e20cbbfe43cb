#!/bin/busybox sh
# The guest's first process: mounts what a host has, runs /command, reports its exit status.
# ttyS0 is the kernel's console, ttyS1 the command's output, ttyS2 what the host wants to know.
export PATH=/bin:/usr/bin:/usr/sbin HOME=/root
/bin/busybox mkdir -p /proc /sys /dev /tmp /run /root
/bin/busybox mount -t proc proc /proc
/bin/busybox --install -s /bin
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm /dev/mqueue
mount -t devpts -o ptmxmode=0666 devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tmpfs tmpfs /run
mount -t mqueue mqueue /dev/mqueue
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t debugfs debugfs /sys/kernel/debug
mount -t tracefs tracefs /sys/kernel/tracing
mount -t securityfs securityfs /sys/kernel/security
ln -sf /proc/self/fd /dev/fd
ip link set lo up
cd /root

# Bytes arrive as they were written, the host's terminal does the rest.
stty -F /dev/ttyS1 raw -echo
stty -F /dev/ttyS2 raw -echo
echo ready >/dev/ttyS2
if [ -e /terminal ]; then
    # A serial port forgets its size when nobody has it open.
    setsid sh -c 'stty rows 40 cols 120; exec sh /command' </dev/ttyS1 >/dev/ttyS1 2>&1
    status=$?
else
    mkfifo /run/output
    cat /run/output >/dev/ttyS1 &
    output=$!
    sh /command </dev/null >/run/output 2>&1
    status=$?
    # Whoever outlives the command may keep the pipe open, but not for long.
    (sleep 2; kill $output) 2>/dev/null &
    wait $output
fi
echo "exit $status" >/dev/ttyS2
# The host ends the machine. Should it be gone, so is this.
sleep 60
poweroff -f

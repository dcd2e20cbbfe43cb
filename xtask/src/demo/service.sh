# The demonstration, as it runs in the guest.
unit=/sys/fs/cgroup/system.slice/leaky.service
mkdir -p $unit
mkfifo /tmp/reports
# A copy is kept to look into; stderr stays on the terminal.
tee /tmp/seen </tmp/reports &
fdtrace >/tmp/reports &
watch=$!

# The thread that writes is the last thing it needs; the rest is its banner.
until grep -qs fdtrace-output /proc/$watch/task/*/comm; do
    kill -0 $watch || exit
    sleep 0.1
done
sleep 1

# As systemd would run it: in a cgroup of its own, as a user of its own.
sh -c "echo 0 >$unit/cgroup.procs
(echo; sleep 10) | su -s /bin/sh nobody -c 'exec /bin/leaky-service leak_connection --limit 120'" >/dev/null &
wait $!

kill -INT $watch
wait $watch || exit
sleep 0.2
grep -q leaky-service /tmp/seen

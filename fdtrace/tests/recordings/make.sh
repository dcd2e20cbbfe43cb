# Records the gym's scenarios by the backend given, and writes the recording to stdout as text.
fdtrace record -o /recording --backend "$1" 2> /said &
recorder=$!
until grep -q 'Ctrl-C' /said; do
    sleep 0.1
done
for scenario in openat f_dupfd scm_rights dup2 inotify_instances 'storm --count 20000 --threads 2' \
    'open_close --count 200' dup_kinds 'accept_eagain --count 20' reserved 'close_range --count 200' \
    close_range_cloexec close_range_unshare fork_close 'fork_race --count 2' shared_table unshare_thread \
    vfork_exec posix_spawn_actions exec_cloexec exec_from_thread \
    receive_many receive_peek pidfd_getfd io_uring_table kinds churn; do
    gym $scenario > /dev/null 2>> /said < /dev/null
done
kill -INT $recorder
wait $recorder
cat /said >&2
echo BEGIN
base64 /recording
echo END

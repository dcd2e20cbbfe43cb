# Records a program that leaks one file in two ways, with the stacks, and writes the recording to stdout as text.
fdtrace record -o /recording --backend "$1" --stacks always --comm server 2> /said &
recorder=$!
until grep -q 'Ctrl-C' /said; do
    sleep 0.1
done
sleep 3 | server 6 two > /dev/null
kill -INT $recorder
wait $recorder
cat /said >&2
echo BEGIN
base64 /recording
echo END

/* Leaks files from one line of code, as programs do: without frame pointers, through libc.
 *
 * victim COUNT [two]: opens COUNT files and says so, then one for each byte of standard input, three more
 * at its end, and is gone at once; with `two`, every second one in another way. The tests look for the lines
 * that end in a name in brackets.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static volatile long total;

/* Small enough to be inlined, and to be shown all the same. */
static inline __attribute__((always_inline)) int open_quietly(const char *path)
{
	return open(path, O_RDONLY | O_CLOEXEC); /* [opens] */
}

/* Room on the stack whose size nobody knows beforehand, so that its frame has a pointer. */
__attribute__((noinline)) int leak_one(const char *path, long size)
{
	char copy[size];
	snprintf(copy, sizeof(copy), "%s", path);
	int fd = open_quietly(copy); /* [leaks] */
	total += copy[0] + fd;
	return fd;
}

/* Saves registers and has no pointer: where its caller is, only .eh_frame tells. */
__attribute__((noinline)) int handle_request(const char *path, long a, long b, long c, long d)
{
	long before = total;
	int fd = leak_one(path, 64 + (a & 7)); /* [handles] */
	total += before * a + b * c - d;
	return fd + (int)(total & 1);
}

/* Another way to the same file. */
__attribute__((noinline)) int run_job(const char *path, long a)
{
	int fd = leak_one(path, 80 + (a & 7)); /* [runs] */
	total += fd;
	return fd;
}

int main(int argc, char **argv)
{
	long count = argc > 1 ? atol(argv[1]) : 1;
	long more = 3;
	for (long turn = 0; turn < count || more > 0; turn++) {
		char byte;
		if (turn == count && write(1, "ready\n", 6) != 6)
			return 1;
		if (turn >= count && read(0, &byte, 1) <= 0)
			more--;
		int fd;
		if (argc > 2 && turn % 2)
			fd = run_job("/dev/null", turn); /* [starts] */
		else
			fd = handle_request("/dev/null", turn, count, argc, total); /* [calls] */
		if (fd < 0)
			return 1;
	}
	return 0;
}

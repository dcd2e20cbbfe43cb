/* A server that accepts clients and keeps them: waits with select(2) where USE_SELECT is defined, with epoll else.
 * Says "ready PORT" when it listens. Arguments: how many workers share the listener (0: none, it serves itself), and
 * "fill" for a program that opens files until none is left, and waits for nobody. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <signal.h>

#ifdef USE_SELECT
static void serve(int listener)
{
	int highest = listener;
	fd_set watched;

	FD_ZERO(&watched);
	FD_SET(listener, &watched);
	for (;;) {
		fd_set ready = watched;
		if (select(highest + 1, &ready, NULL, NULL, NULL) < 0)
			exit(1);
		if (!FD_ISSET(listener, &ready))
			continue;
		int client = accept(listener, NULL, NULL);
		if (client < 0) {
			usleep(10000);
			continue;
		}
		FD_SET(client, &watched);
		if (client > highest)
			highest = client;
	}
}
#else
static void serve(int listener)
{
	struct epoll_event event = { .events = EPOLLIN };
	int poll = epoll_create1(0);

	fcntl(listener, F_SETFL, O_NONBLOCK);
	epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
	for (;;) {
		if (epoll_wait(poll, &event, 1, -1) < 1)
			continue;
		if (accept(listener, NULL, NULL) < 0)
			usleep(10000);
	}
}
#endif

int main(int argc, char **argv)
{
	int workers = argc > 1 ? atoi(argv[1]) : 0;
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (bind(listener, (struct sockaddr *)&address, length) || listen(listener, 4000) ||
	    getsockname(listener, (struct sockaddr *)&address, &length))
		return 1;
	printf("ready %d\n", ntohs(address.sin_port));
	fflush(stdout);
	if (argc > 1 && !strcmp(argv[1], "fill")) {
		while (open("/dev/null", O_RDONLY) >= 0)
			;
		pause();
	}
	for (int worker = 0; worker < workers; worker++) {
		if (fork() == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			serve(listener);
		}
	}
	if (workers > 0)
		for (;;)
			pause();
	serve(listener);
}

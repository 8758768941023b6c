/*
 * Echo server: the least that a server on a Unix socket can do. What it reaches is the limit for every other.
 *
 *     echo SOCKET
 *
 * One thread, one epoll; each read is answered by one write of the same bytes. Nothing is looked at, so its pipelined
 * figure is that of copying bytes. It says `ready` once it listens, and ends with the process that started it.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { BUFFER = 65536, BACKLOG = 512, EVENTS = 64 };

static char buffer[BUFFER];

static int failed(const char *what)
{
    perror(what);
    return 1;
}

/* Send back what has come; 0 once the client has gone. */
static int answer(int client)
{
    ssize_t received = read(client, buffer, sizeof buffer), done = 0;
    while (done < received) {
        ssize_t sent = write(client, buffer + done, (size_t)(received - done));
        if (sent < 0)
            return 0;
        done += sent;
    }
    return received > 0;
}

static void watch(int poll, int descriptor)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = descriptor};
    if (epoll_ctl(poll, EPOLL_CTL_ADD, descriptor, &event) < 0)
        perror("epoll_ctl");
}

int main(int count, char **words)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (count != 2 || strlen(words[1]) >= sizeof address.sun_path) {
        fprintf(stderr, "usage: echo SOCKET (a path of at most %zu bytes)\n", sizeof address.sun_path - 1);
        return 64;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    strcpy(address.sun_path, words[1]);
    int listening = socket(AF_UNIX, SOCK_STREAM, 0), poll = epoll_create1(0);
    if (listening < 0 || bind(listening, (struct sockaddr *)&address, sizeof address) < 0)
        return failed(words[1]);
    /* As with the daemon, anybody may connect. */
    if (chmod(words[1], 0666) < 0 || listen(listening, BACKLOG) < 0 || poll < 0)
        return failed("listen");
    watch(poll, listening);
    puts("ready");
    fflush(stdout);
    for (;;) {
        struct epoll_event events[EVENTS];
        int ready = epoll_wait(poll, events, EVENTS, -1);
        if (ready < 0 && errno != EINTR)
            return failed("epoll_wait");
        for (int place = 0; place < ready; place++) {
            int from = events[place].data.fd;
            if (from == listening)
                watch(poll, accept(listening, NULL, NULL));
            else if (!answer(from))
                close(from);
        }
    }
}

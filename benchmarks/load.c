/*
 * Load generator: asks a Varlink server on a Unix socket as fast as it answers.
 *
 *     load SOCKET CONNECTIONS DEPTH MESSAGES
 *
 * Every connection sends DEPTH messages in one write, waits for as many replies, and so on, until MESSAGES have been
 * answered in all. Messages are Acquire and Release in turn under a key of the connection's own, so that a license
 * daemon grants each Acquire and holds nothing in the end; an echo server just sends them back.
 *
 * Prints one line: messages, seconds, and the 50th and 99th percentile of the time of one round trip in microseconds.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { MAX_CONNECTIONS = 512, MAX_DEPTH = 64, MAX_MESSAGE = 320, MAX_SAMPLES = 4000000, BUFFER = 65536 };

struct connection {
    int descriptor;
    long sent_at;      /* nanoseconds, when the batch under way was sent */
    int unanswered;    /* replies of the batch that are still to come */
    size_t length[2];  /* of the two batches, which are sent in turn */
    int next;
    char batch[2][MAX_DEPTH * MAX_MESSAGE];
};

static struct connection connections[MAX_CONNECTIONS];
static unsigned samples[MAX_SAMPLES];
static size_t sample_count;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static long now(void)
{
    struct timespec moment;
    clock_gettime(CLOCK_MONOTONIC, &moment);
    return moment.tv_sec * 1000000000L + moment.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    unsigned left = *(const unsigned *)a, right = *(const unsigned *)b;
    return (left > right) - (left < right);
}

/* A message with its NUL; message `number` of the connection: Acquire where it is even, else Release of the same key. */
static size_t write_message(char *to, int connection, int depth, int number)
{
    int slot = (number / 2) % depth;
    if (number % 2 == 0)
        return (size_t)sprintf(to,
            "{\"method\":\"io.featurekey.License.Acquire\",\"parameters\":{\"holder\":\"bench\",\"key\":\"call-%d-%d\","
            "\"wants\":[{\"feature\":\"sip-trunk-channels\"}],\"phase\":\"established\"}}", connection, slot) + 1;
    return (size_t)sprintf(to,
        "{\"method\":\"io.featurekey.License.Release\",\"parameters\":{\"holder\":\"bench\",\"key\":\"call-%d-%d\"}}",
        connection, slot) + 1;
}

static void prepare(struct connection *it, int number, const char *path, int depth)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    it->descriptor = socket(AF_UNIX, SOCK_STREAM, 0);
    if (it->descriptor < 0 || connect(it->descriptor, (struct sockaddr *)&address, sizeof address) < 0)
        fail(path);
    for (int half = 0; half < 2; half++)
        for (int place = 0; place < depth; place++)
            it->length[half] += write_message(it->batch[half] + it->length[half], number, depth, half * depth + place);
}

static void send_batch(struct connection *it, int depth)
{
    size_t done = 0;
    it->sent_at = now();
    it->unanswered = depth;
    while (done < it->length[it->next]) {
        ssize_t sent = write(it->descriptor, it->batch[it->next] + done, it->length[it->next] - done);
        if (sent < 0)
            fail("write");
        done += (size_t)sent;
    }
    it->next = !it->next;
}

/* Read what has come; the number of replies that ended in it. */
static int receive(struct connection *it)
{
    static char buffer[BUFFER];
    ssize_t received = read(it->descriptor, buffer, sizeof buffer);
    int replies = 0;
    if (received <= 0)
        fail("read");
    for (const char *at = buffer; (at = memchr(at, 0, (size_t)(buffer + received - at))); at++)
        replies++;
    it->unanswered -= replies;
    return replies;
}

int main(int count, char **words)
{
    if (count != 5) {
        fprintf(stderr, "usage: load SOCKET CONNECTIONS DEPTH MESSAGES\n");
        return 64;
    }
    int wide = atoi(words[2]), depth = atoi(words[3]);
    long wanted = atol(words[4]), answered = 0;
    if (wide < 1 || wide > MAX_CONNECTIONS || depth < 1 || depth > MAX_DEPTH || (depth > 1 && depth % 2))
        return 64;
    int poll = epoll_create1(0);
    for (int number = 0; number < wide; number++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &connections[number]};
        prepare(&connections[number], number, words[1], depth);
        epoll_ctl(poll, EPOLL_CTL_ADD, connections[number].descriptor, &event);
    }
    long begun = now();
    for (int number = 0; number < wide; number++)
        send_batch(&connections[number], depth);
    /* Every connection ends with a Release, so a little more than wanted is sent. */
    for (int idle = 0; idle < wide;) {
        struct epoll_event events[64];
        int ready = epoll_wait(poll, events, 64, 30000);
        if (ready <= 0)
            fail("no answer within 30 s");
        for (int place = 0; place < ready; place++) {
            struct connection *it = events[place].data.ptr;
            answered += receive(it);
            if (it->unanswered)
                continue;
            if (sample_count < MAX_SAMPLES)
                samples[sample_count++] = (unsigned)((now() - it->sent_at) / 1000);
            if (answered < wanted || it->next)
                send_batch(it, depth);
            else
                idle++;
        }
    }
    double seconds = (double)(now() - begun) / 1e9;
    qsort(samples, sample_count, sizeof *samples, compare);
    printf("%ld %.6f %u %u\n", answered, seconds, samples[sample_count / 2], samples[sample_count * 99 / 100]);
    return 0;
}

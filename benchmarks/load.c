/*
 * Load generator: asks a server on a Unix socket as fast as it answers.
 *
 *     load SOCKET PROTOCOL HOLDER CONNECTIONS DEPTH MESSAGES SECONDS [ACQUIRE RELEASE]
 *
 * PROTOCOL is `varlink` (the license daemon), `echo` (the same messages, which come back as they are) or `redis`
 * (EVALSHA of two scripts that are loaded already, whose digests are ACQUIRE and RELEASE).
 *
 * Every connection sends DEPTH messages in one write, waits for as many replies, and so on, until MESSAGES have been
 * answered in all, SECONDS have passed, or SIGTERM comes. Messages take and give back a lease in turn, under keys of the
 * connection's own, and each connection ends with giving back: whoever holds a lease afterwards has lost count. Every
 * reply is looked at; one that does not say yes ends the program with status 1.
 *
 * Prints one line: messages, seconds, and the 50th and 99th percentile of the time of one round trip in microseconds.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { MAX_CONNECTIONS = 256, MAX_DEPTH = 64, MAX_WORD = 64, MAX_MESSAGE = 512, MAX_SAMPLES = 4000000 };
enum { BUFFER = 65536, SILENCE = 30000, LIFE = 600 };

/* How a protocol writes its messages, ends its replies, and says yes. */
struct protocol {
    const char *name;
    char end;
    size_t (*acquire)(char *to, const char *key);
    size_t (*release)(char *to, const char *key);
    int (*allowed)(const char *reply, size_t length);
    int (*released)(const char *reply, size_t length);
};

struct connection {
    int descriptor;
    long sent_at;       /* nanoseconds, when the batch under way was sent */
    int unanswered;     /* replies of the batch that are still to come */
    size_t length[2];   /* of the two batches, which are sent in turn */
    int next;           /* the batch to send next */
    size_t held;        /* bytes of a reply that has not come whole */
    char batch[2][MAX_DEPTH * MAX_MESSAGE];
    char buffer[BUFFER];
};

static struct connection connections[MAX_CONNECTIONS];
static unsigned samples[MAX_SAMPLES]; /* nanoseconds, at most 4.29 s */
static size_t sample_count;
static const char *holder, *acquire_digest, *release_digest;
static volatile sig_atomic_t told_to_end;

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

static void end(int number)
{
    (void)number;
    told_to_end = 1;
}

/* Varlink: JSON and a NUL. */

static size_t varlink_acquire(char *to, const char *key)
{
    return (size_t)sprintf(to,
        "{\"method\":\"io.featurekey.License.Acquire\",\"parameters\":{\"holder\":\"%s\",\"key\":\"%s\","
        "\"wants\":[{\"feature\":\"sip-trunk-channels\"}],\"phase\":\"established\"}}", holder, key) + 1;
}

static size_t varlink_release(char *to, const char *key)
{
    return (size_t)sprintf(to,
        "{\"method\":\"io.featurekey.License.Release\",\"parameters\":{\"holder\":\"%s\",\"key\":\"%s\"}}",
        holder, key) + 1;
}

static int holds(const char *reply, size_t length, const char *text)
{
    return memmem(reply, length, text, strlen(text)) != NULL;
}

static int varlink_allowed(const char *reply, size_t length)
{
    return holds(reply, length, "\"allowed\":true");
}

static int varlink_released(const char *reply, size_t length)
{
    return holds(reply, length, "\"released\":true");
}

/* Echo: the call itself comes back. */

static int echo_allowed(const char *reply, size_t length)
{
    return holds(reply, length, "License.Acquire");
}

static int echo_released(const char *reply, size_t length)
{
    return holds(reply, length, "License.Release");
}

/* Redis: RESP, an array of strings for the call and an integer for the answer. */

static size_t resp(char *to, int count, const char **words)
{
    size_t length = (size_t)sprintf(to, "*%d\r\n", count);
    for (int place = 0; place < count; place++)
        length += (size_t)sprintf(to + length, "$%zu\r\n%s\r\n", strlen(words[place]), words[place]);
    return length;
}

static size_t redis_call(char *to, const char *digest, const char *key, int count)
{
    char lease[2 * MAX_WORD + 8];
    sprintf(lease, "lease:%s:%s", holder, key);
    const char *words[] = {"EVALSHA", digest, "2", lease, "in-use:sip-trunk-channels", "sip-trunk-channels", "1", "128"};
    return resp(to, count, words);
}

static size_t redis_acquire(char *to, const char *key)
{
    return redis_call(to, acquire_digest, key, 8);
}

static size_t redis_release(char *to, const char *key)
{
    return redis_call(to, release_digest, key, 5);
}

/* Acquire answers with the number in use, 0 for a denial; Release with the number of leases given back. */
static int redis_positive(const char *reply, size_t length)
{
    return length > 1 && reply[0] == ':' && reply[1] >= '1' && reply[1] <= '9';
}

static const struct protocol protocols[] = {
    {"varlink", '\0', varlink_acquire, varlink_release, varlink_allowed, varlink_released},
    {"echo", '\0', varlink_acquire, varlink_release, echo_allowed, echo_released},
    {"redis", '\n', redis_acquire, redis_release, redis_positive, redis_positive},
};
static const struct protocol *protocol;

static const struct protocol *protocol_named(const char *name)
{
    for (size_t place = 0; place < sizeof protocols / sizeof *protocols; place++)
        if (!strcmp(protocols[place].name, name))
            return &protocols[place];
    return NULL;
}

/* Message `number` of the connection: Acquire where it is even, else Release of the same key. */
static size_t write_message(char *to, int connection, int depth, int number)
{
    char key[MAX_WORD];
    sprintf(key, "call-%d-%d", connection, (number / 2) % depth);
    return number % 2 ? protocol->release(to, key) : protocol->acquire(to, key);
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

static void check(struct connection *it, int depth, const char *reply, size_t length)
{
    int place = depth - it->unanswered;
    int number = it->next ? place : depth + place; /* `next` has moved on since the batch was sent */
    int good = number % 2 ? protocol->released(reply, length) : protocol->allowed(reply, length);
    if (good && it->unanswered > 0)
        return;
    fprintf(stderr, "not a yes to %s: %.*s\n", number % 2 ? "Release" : "Acquire", (int)length, reply);
    exit(1);
}

/* Read what has come and look at each reply that is whole; their number. */
static int receive(struct connection *it, int depth)
{
    ssize_t received = read(it->descriptor, it->buffer + it->held, sizeof it->buffer - it->held);
    if (received <= 0)
        fail("read");
    char *from = it->buffer, *until = it->buffer + it->held + received, *mark;
    int replies = 0;
    for (; (mark = memchr(from, protocol->end, (size_t)(until - from))); from = mark + 1, replies++) {
        check(it, depth, from, (size_t)(mark - from));
        it->unanswered--;
    }
    it->held = (size_t)(until - from);
    memmove(it->buffer, from, it->held);
    return replies;
}

static void note(long nanoseconds)
{
    if (sample_count < MAX_SAMPLES)
        samples[sample_count++] = nanoseconds > 4294967295L ? 4294967295U : (unsigned)nanoseconds;
}

/* Go on until enough is answered; the number of answers. */
static long run(int poll, int wide, int depth, long wanted, long until)
{
    long answered = 0;
    for (int idle = 0; idle < wide;) {
        struct epoll_event events[64];
        int ready = epoll_wait(poll, events, 64, SILENCE);
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready <= 0)
            fail("no answer within 30 s");
        for (int place = 0; place < ready; place++) {
            struct connection *it = events[place].data.ptr;
            answered += receive(it, depth);
            if (it->unanswered)
                continue;
            long moment = now();
            note(moment - it->sent_at);
            /* A connection ends with a Release, so a little more than wanted is sent. */
            if ((answered < wanted && moment < until && !told_to_end) || it->next)
                send_batch(it, depth);
            else
                idle++;
        }
    }
    return answered;
}

int main(int count, char **words)
{
    if (count != 8 && count != 10) {
        fprintf(stderr, "usage: load SOCKET PROTOCOL HOLDER CONNECTIONS DEPTH MESSAGES SECONDS [ACQUIRE RELEASE]\n");
        return 64;
    }
    int wide = atoi(words[4]), depth = atoi(words[5]), redis = count == 10;
    protocol = protocol_named(words[2]);
    holder = words[3];
    acquire_digest = redis ? words[8] : "";
    release_digest = redis ? words[9] : "";
    if (!protocol || strlen(holder) >= MAX_WORD || strlen(acquire_digest) >= MAX_WORD || wide < 1 ||
        wide > MAX_CONNECTIONS || depth < 1 || depth > MAX_DEPTH || (depth > 1 && depth % 2))
        return 64;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(LIFE); /* whatever happens, the load ends */
    sigaction(SIGTERM, &(struct sigaction){.sa_handler = end}, NULL);
    int poll = epoll_create1(0);
    for (int number = 0; number < wide; number++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &connections[number]};
        prepare(&connections[number], number, words[1], depth);
        epoll_ctl(poll, EPOLL_CTL_ADD, connections[number].descriptor, &event);
    }
    long begun = now();
    for (int number = 0; number < wide; number++)
        send_batch(&connections[number], depth);
    puts("begun");
    fflush(stdout);
    long answered = run(poll, wide, depth, atol(words[6]), begun + atol(words[7]) * 1000000000L);
    double seconds = (double)(now() - begun) / 1e9;
    qsort(samples, sample_count, sizeof *samples, compare);
    printf("%ld %.6f %.1f %.1f\n", answered, seconds, samples[sample_count / 2] / 1e3,
           samples[sample_count * 99 / 100] / 1e3);
    return 0;
}

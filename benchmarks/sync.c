/*
 * Sends a holder's list of leases with Sync, in numbered parts of 256, one after the other.
 *
 *     sync SOCKET HOLDER LEASES LISTS
 *
 * LISTS lists are sent, or, where it is 0, lists until SIGTERM comes; a list that was begun is ended. All lists are the
 * same, so the first is adopted and the others find nothing to mend. A reply without `held`, or one at the end of a list
 * that does not hold all of it, ends the program with status 1.
 *
 * Keys are as long as a Call-ID and a From-tag. The leases want a feature that `load` does not ask for.
 *
 * Prints `begun` when the first list is through, and at the end one line: lists, seconds, and the median and the longest
 * time of one call in microseconds.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { PART = 256, MAX_LEASES = 20000, MAX_PARTS = MAX_LEASES / PART + 1, LEASE_BYTES = 192, REPLY = 4096 };
enum { MAX_SAMPLES = 1000000, LIFE = 600 };

struct part {
    size_t length;
    char text[PART * LEASE_BYTES];
};

static struct part parts[MAX_PARTS];
static unsigned samples[MAX_SAMPLES]; /* microseconds */
static size_t sample_count;
static volatile sig_atomic_t told_to_end;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void end(int number)
{
    (void)number;
    told_to_end = 1;
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

/* The leases of every part, as JSON, with the end of the message. */
static int write_parts(int leases)
{
    int count = (leases + PART - 1) / PART;
    for (int number = 0; number < leases; number++) {
        struct part *it = &parts[number / PART];
        it->length += (size_t)sprintf(it->text + it->length,
            "%c{\"key\":\"%08x-5c1b-4e0d-9a37-%012x@pbx;from-tag=%08x\","
            "\"wants\":[{\"feature\":\"third-party-ip-endpoints\"}]}", number % PART ? ',' : '[',
            (unsigned)number * 2654435761U, (unsigned)number, (unsigned)number * 40503U);
    }
    for (int number = 0; number < count; number++) {
        memcpy(parts[number].text + parts[number].length, "]}}", 4);
        parts[number].length += 4; /* with the NUL */
    }
    return count;
}

static void write_whole(int descriptor, const char *text, size_t length)
{
    while (length > 0) {
        ssize_t sent = write(descriptor, text, length);
        if (sent < 0)
            fail("write");
        text += sent;
        length -= (size_t)sent;
    }
}

static void send_part(int descriptor, const char *holder, long generation, int number, int last)
{
    static char message[sizeof parts->text + 512];
    int head = sprintf(message,
        "{\"method\":\"io.featurekey.License.Sync\",\"parameters\":{\"holder\":\"%s\",\"scope\":\"calls\","
        "\"generation\":%ld,\"part\":%d,\"last\":%s,\"leases\":",
        holder, generation, number + 1, last ? "true" : "false");
    memcpy(message + head, parts[number].text, parts[number].length);
    write_whole(descriptor, message, (size_t)head + parts[number].length);
}

/* Wait for the reply; the number of leases held, as it says. */
static long receive(int descriptor)
{
    static char reply[REPLY];
    size_t length = 0;
    while (length == 0 || reply[length - 1]) {
        ssize_t received = length < sizeof reply ? read(descriptor, reply + length, sizeof reply - length) : 0;
        if (received <= 0)
            fail("read");
        length += (size_t)received;
    }
    const char *held = strstr(reply, "\"held\":");
    if (!held) {
        fprintf(stderr, "refused: %s\n", reply);
        exit(1);
    }
    return atol(held + strlen("\"held\":"));
}

static void send_list(int descriptor, const char *holder, int leases, int count)
{
    /* The clock rises from list to list, also from one run to the next. */
    long generation = now() / 1000;
    for (int number = 0; number < count; number++) {
        long begun = now();
        send_part(descriptor, holder, generation, number, number == count - 1);
        long held = receive(descriptor);
        if (sample_count < MAX_SAMPLES)
            samples[sample_count++] = (unsigned)((now() - begun) / 1000);
        if (number == count - 1 && held != leases) {
            fprintf(stderr, "%ld of %d leases are held\n", held, leases);
            exit(1);
        }
    }
}

int main(int count, char **words)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int leases = count == 5 ? atoi(words[3]) : 0;
    if (leases < 1 || leases > MAX_LEASES || strlen(words[2]) > 64) {
        fprintf(stderr, "usage: sync SOCKET HOLDER LEASES LISTS, with at most %d leases\n", MAX_LEASES);
        return 64;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(LIFE); /* whatever happens, it ends */
    sigaction(SIGTERM, &(struct sigaction){.sa_handler = end, .sa_flags = SA_RESTART}, NULL);
    strncpy(address.sun_path, words[1], sizeof address.sun_path - 1);
    int descriptor = socket(AF_UNIX, SOCK_STREAM, 0);
    if (descriptor < 0 || connect(descriptor, (struct sockaddr *)&address, sizeof address) < 0)
        fail(words[1]);
    int size = write_parts(leases);
    long begun = now(), wanted = atol(words[4]), lists = 0;
    while (wanted ? lists < wanted : !told_to_end || !lists) {
        send_list(descriptor, words[2], leases, size);
        if (!lists++) {
            puts("begun");
            fflush(stdout);
        }
    }
    double seconds = (double)(now() - begun) / 1e9;
    qsort(samples, sample_count, sizeof *samples, compare);
    printf("%ld %.6f %u %u\n", lists, seconds, samples[sample_count / 2], samples[sample_count - 1]);
    return 0;
}

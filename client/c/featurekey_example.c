/*
 * A client of featurekeyd in C: ask before a call, give back after it, ask how a call stands.
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 *     cc -std=c99 -Wall -Wextra -Wpedantic -o featurekey_example featurekey_example.c
 *     featurekey_example HOLDER [SOCKET [COOL_DOWN_MS [TIME_LIMIT_MS]]]     reads questions from standard input
 *
 * One file, C99 and POSIX.1-2008 only, made to be copied into a switch. It speaks io.featurekey.License, which
 * describes itself (org.varlink.service.GetInterfaceDescription). What a switch may rely on:
 *
 *   - Nothing is opened before the first question. A question takes at most 250 ms, whatever happens.
 *   - A connection that the daemon has closed since, as by a restart, is opened anew once, and the question repeated.
 *   - After trouble the daemon is left alone for one second: fk_acquire answers on the spot. A release is tried even
 *     then, and one that cannot be delivered is queued and goes out before the next question.
 *   - Without an answer the caller's `fail_open` decides, trunk by trunk. Where the daemon refused the question itself
 *     the call is denied all the same: no far end shall turn a license off by what it sends.
 *   - An emergency call is always allowed, whatever the daemon says or does not say.
 *   - A refused call that was asked about and not answered may hold a lease; its key is queued for release.
 *   - No signal is raised (MSG_NOSIGNAL). After a fork() the child drops the parent's socket and queue unused.
 *   - What the daemon sends is not trusted: its length, depth and texts are bounded, and it is checked to its end.
 *
 * A struct fk_client is used by one thread at a time; give each worker its own. The key of a SIP call is
 * `CALLID;tag=FROMTAG`, because the far end chooses the Call-ID. Send Sync from time to time as well, which this
 * example leaves out: only the switch's own list settles what a crash leaves behind.
 */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FK_SOCKET "/run/featurekeyd/io.featurekey.License"
#define FK_INTERFACE "io.featurekey.License."

enum {
    FK_TIME_LIMIT_MS = 250,         /* half of the 500 ms after which a caller sends its INVITE again */
    FK_COOL_DOWN_MS = 1000,         /* a worker waits once, not for each call */
    FK_COOL_SHARE = 5,              /* a release during that time may take this part of the time limit: 50 ms */
    FK_FLUSH_SHARE = 2,             /* and queued releases this part, before a question of one's own */
    FK_BACKLOG_PAUSE_MS = 5,        /* while the daemon's queue of new connections is full */
    FK_MAX_QUEUE = 1024,            /* 25 s of a switch where 40 calls end each second; Sync settles the rest */
    FK_MAX_REPLY = 262144,          /* bytes; the longest honest reply asked for here is shorter */
    FK_MAX_DEPTH = 32,              /* of arrays and objects; an honest reply has six */
    FK_MAX_KEY = 512,               /* characters, as io.featurekey.License says; the same for those below */
    FK_MAX_PLACE = 128,
    FK_MAX_HOLDER = 64,
    FK_MAX_DIALED = 64,
    FK_MAX_WANTS = 8,
    FK_STAND_IN_HEAD = 60,          /* characters of a key at the beginning of its stand-in */
    FK_KEY_BYTES = 4 * FK_MAX_KEY + 1
};

/* What one call takes of one feature. */
struct fk_want {
    const char *feature;
    int instances;                  /* 1 or more */
};

/* A question; what is not known stays 0 or NULL. */
struct fk_request {
    const char *key;
    const struct fk_want *wants;
    size_t want_count;
    const char *port;               /* e.g. "trunk:carrier-a" */
    const char *channel;            /* e.g. "7" */
    const char *dialed;
    const char *phase;              /* "setup" or "established" */
    int emergency;                  /* the switch knows that it is an emergency call */
    int fail_open;                  /* the answer when the daemon cannot be asked */
};

struct fk_answer {
    int allowed;
    int from_daemon;                /* 0: made here, with the reason "daemon_away", "refused" or "emergency" */
    char reason[65];
    char feature[257];              /* empty where the daemon names none */
    long long limit, in_use;        /* -1 where the daemon says nothing */
    char message[512];              /* why, in words, where it is denied */
};

/* A call as the daemon has it. */
struct fk_call {
    char key[FK_KEY_BYTES];
    char phase[16];
    char port[4 * FK_MAX_PLACE + 1];
    char channel[4 * FK_MAX_PLACE + 1];
    long long age_seconds;
};

/* Bytes that grow; `failed` once there was no memory. */
struct fk_text {
    char *bytes;
    size_t length, room;
    int failed;
};

struct fk_client {
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
    char holder[4 * FK_MAX_HOLDER + 1];
    const char *const *emergency_numbers;   /* ends with NULL; the site's own belong here as well */
    long time_limit_ms, cool_down_ms;
    /* What belongs to one process alone. */
    pid_t process;
    int socket;
    int worked;                     /* this connection has brought an answer */
    long long rests_until;
    char *queue[FK_MAX_QUEUE];      /* keys to release, the oldest first */
    size_t queued;
    unsigned long lost;             /* releases given up: no room, or the daemon will not take them */
    struct fk_text reply;
    char trouble[256];              /* what was wrong last, for the switch's log */
};

int fk_open(struct fk_client *client, const char *holder, const char *path);
void fk_acquire(struct fk_client *client, const struct fk_request *request, struct fk_answer *answer);
int fk_release(struct fk_client *client, const char *key);
int fk_find(struct fk_client *client, const char *key, struct fk_call *call);
void fk_close(struct fk_client *client);

/* ------------------------------------------------------------------ texts: UTF-8, growing, and names that fit */

/* The next character of a UTF-8 text and its length in bytes; 0 for bytes that are none (RFC 3629). */
static size_t fk_character(const unsigned char *at, size_t left, uint32_t *character)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t length, i;
    uint32_t value;
    if (left == 0)
        return 0;
    if (at[0] < 0x80) {
        *character = at[0];
        return 1;
    }
    length = at[0] >= 0xF0 ? 4 : at[0] >= 0xE0 ? 3 : 2;
    if (at[0] < 0xC2 || at[0] > 0xF4 || length > left)
        return 0;
    value = at[0] & (0xFFu >> (length + 1));
    for (i = 1; i < length; i++) {
        if ((at[i] & 0xC0) != 0x80)
            return 0;
        value = value << 6 | (at[i] & 0x3Fu);
    }
    if (value < least[length] || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF))
        return 0;
    *character = value;
    return length;
}

/* Whether a terminal shows the character as it is; of those in doubt it says no. */
static int fk_is_printable(uint32_t it)
{
    if (it < 0xA1)
        return it >= 0x20 && it <= 0x7E;
    return it != 0xAD && !(it >= 0x0600 && it <= 0x0605) && !(it >= 0x2000 && it <= 0x200F) &&
        !(it >= 0x2028 && it <= 0x202F) && !(it >= 0x205F && it <= 0x206F) && it != 0x1680 && it != 0x3000 &&
        it != 0xFEFF && !(it >= 0xD800 && it <= 0xF8FF) && !(it >= 0xFFF0 && it <= 0xFFFB) && it < 0x1FFFE &&
        (it & 0xFFFE) != 0xFFFE;
}

static void fk_add(struct fk_text *text, const char *bytes, size_t length)
{
    if (text->failed || length > SIZE_MAX / 2 - text->length) {
        text->failed = 1;
        return;
    }
    if (text->length + length + 1 > text->room) {
        size_t room = 2 * (text->length + length) + 256;
        char *grown = realloc(text->bytes, room);
        if (grown == NULL) {
            text->failed = 1;
            return;
        }
        text->bytes = grown;
        text->room = room;
    }
    memcpy(text->bytes + text->length, bytes, length);
    text->length += length;
    text->bytes[text->length] = '\0';
}

static void fk_put(struct fk_text *text, const char *bytes)
{
    fk_add(text, bytes, strlen(bytes));
}

/* SHA-256 (FIPS 180-4) of a text, as hexadecimal digits. */
static void fk_digest(const char *text, char digits[65])
{
    static const uint32_t k[64] = {
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
        0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
        0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
        0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
        0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
        0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
        0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
        0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
    uint32_t h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    size_t length = strlen(text), blocks = (length + 8) / 64 + 1, block, i;
    for (block = 0; block < blocks; block++) {
        uint32_t w[64], s[8];
        for (i = 0; i < 64; i++) {
            size_t place = block * 64 + i;
            uint32_t byte = place < length ? (unsigned char)text[place] : place == length ? 0x80u : 0;
            if (place >= blocks * 64 - 8)
                byte = (uint32_t)((uint64_t)length * 8 >> 8 * (blocks * 64 - 1 - place)) & 0xFFu;
            w[i / 4] = i % 4 ? w[i / 4] << 8 | byte : byte;
        }
#define FK_TURN(x, n) ((x) >> (n) | (x) << (32 - (n)))
        for (i = 16; i < 64; i++)
            w[i] = w[i - 16] + w[i - 7] + (FK_TURN(w[i - 15], 7) ^ FK_TURN(w[i - 15], 18) ^ w[i - 15] >> 3) +
                (FK_TURN(w[i - 2], 17) ^ FK_TURN(w[i - 2], 19) ^ w[i - 2] >> 10);
        memcpy(s, h, sizeof s);
        for (i = 0; i < 64; i++) {
            uint32_t one = s[7] + (FK_TURN(s[4], 6) ^ FK_TURN(s[4], 11) ^ FK_TURN(s[4], 25)) +
                ((s[4] & s[5]) ^ (~s[4] & s[6])) + k[i] + w[i];
            uint32_t two = (FK_TURN(s[0], 2) ^ FK_TURN(s[0], 13) ^ FK_TURN(s[0], 22)) +
                ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
            memmove(s + 1, s, 7 * sizeof s[0]);
            s[4] += one;
            s[0] = one + two;
        }
#undef FK_TURN
        for (i = 0; i < 8; i++)
            h[i] += s[i];
    }
    for (i = 0; i < 8; i++)
        snprintf(digits + 8 * i, 9, "%08lx", (unsigned long)h[i]);
}

/*
 * The text itself, or its stand-in where it is longer than `most` characters or not printable: what a far end chose is
 * no mistake of anybody here. A name has one stand-in for ever, the same as in the Python client. `carried` has room
 * for 4 * most + 1 bytes, and for 274 at least. Returns 0 for an empty text.
 */
static int fk_carry(const char *text, size_t most, char *carried)
{
    size_t left = text == NULL ? 0 : strlen(text), count = 0, head = 0, kept = 0;
    const unsigned char *at = (const unsigned char *)text;
    int as_it_is = 1;
    char digits[65];
    if (left == 0)
        return 0;
    while (left > 0) {
        uint32_t character = 0;
        size_t length = fk_character(at, left, &character);
        if (length == 0 || !fk_is_printable(character)) {
            as_it_is = 0;
            length = length == 0 ? 1 : length;
        } else if (kept < FK_STAND_IN_HEAD) {
            memcpy(carried + head, at, length);
            head += length;
            kept++;
        }
        at += length;
        left -= length;
        count++;
    }
    if (as_it_is && count <= most) {
        strcpy(carried, text);
        return 1;
    }
    fk_digest(text, digits);
    snprintf(carried + head, 34, "~%.32s", digits);
    return 1;
}

/* ------------------------------------------------------------------ writing JSON */

/* A text in quotes, escaped; it is one that fk_carry() has let through, or of the switch itself. */
static void fk_put_text(struct fk_text *json, const char *text)
{
    const char *at;
    fk_put(json, "\"");
    for (at = text; *at != '\0'; at++) {
        unsigned char byte = (unsigned char)*at;
        char escape[8];
        if (byte == '"' || byte == '\\')
            snprintf(escape, sizeof escape, "\\%c", byte);
        else if (byte < 0x20 || byte == 0x7F)
            snprintf(escape, sizeof escape, "\\u%04x", byte);
        else
            snprintf(escape, sizeof escape, "%c", byte);
        fk_put(json, escape);
    }
    fk_put(json, "\"");
}

/* One more member of an object that has one already; nothing where there is no text. */
static void fk_put_member(struct fk_text *json, const char *name, const char *text)
{
    if (text == NULL || *text == '\0')
        return;
    fk_put(json, ",\"");
    fk_put(json, name);
    fk_put(json, "\":");
    fk_put_text(json, text);
}

/* ------------------------------------------------------------------ reading JSON (RFC 8259): checked, then searched */

struct fk_json {
    const char *at, *end;
};

static const char *fk_space(const char *at, const char *end)
{
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r'))
        at++;
    return at;
}

/* Four hexadecimal digits; -1 for anything else. */
static long fk_hex(const char *at, const char *end)
{
    long value = 0;
    int i;
    if (end - at < 4)
        return -1;
    for (i = 0; i < 4; i++) {
        char it = at[i];
        if (it >= '0' && it <= '9')
            value = value * 16 + (it - '0');
        else if ((it | 32) >= 'a' && (it | 32) <= 'f')
            value = value * 16 + ((it | 32) - 'a' + 10);
        else
            return -1;
    }
    return value;
}

/* Each fk_skip function gives the place behind what it skips, NULL where that is not there. */
static const char *fk_skip_text(const char *at, const char *end)
{
    if (at >= end || *at != '"')
        return NULL;
    for (at++; at < end && *at != '"'; at++) {
        if ((unsigned char)*at < 0x20)
            return NULL;
        if (*at != '\\')
            continue;
        if (++at >= end)
            return NULL;
        if (*at == 'u') {
            if (fk_hex(at + 1, end) < 0)
                return NULL;
            at += 4;
        } else if (strchr("\"\\/bfnrt", *at) == NULL || *at == '\0') {
            return NULL;
        }
    }
    return at < end ? at + 1 : NULL;
}

static const char *fk_skip_digits(const char *at, const char *end)
{
    const char *begin = at;
    while (at < end && *at >= '0' && *at <= '9')
        at++;
    return at > begin ? at : NULL;
}

static const char *fk_skip_number(const char *at, const char *end)
{
    if (at < end && *at == '-')
        at++;
    if (at < end && *at == '0')
        at++;
    else if ((at = fk_skip_digits(at, end)) == NULL)
        return NULL;
    if (at < end && *at == '.' && (at = fk_skip_digits(at + 1, end)) == NULL)
        return NULL;
    if (at < end && (*at == 'e' || *at == 'E')) {
        at++;
        if (at < end && (*at == '+' || *at == '-'))
            at++;
        at = fk_skip_digits(at, end);
    }
    return at;
}

static const char *fk_skip_word(const char *at, const char *end, const char *word)
{
    size_t length = strlen(word);
    return (size_t)(end - at) >= length && memcmp(at, word, length) == 0 ? at + length : NULL;
}

static const char *fk_skip(const char *at, const char *end, int depth);

/* An array, or an object, whose elements have a name before them. */
static const char *fk_skip_many(const char *at, const char *end, int depth)
{
    int named = *at == '{';
    char last = named ? '}' : ']';
    at = fk_space(at + 1, end);
    if (at < end && *at == last)
        return at + 1;
    while (at < end) {
        if (named) {
            at = fk_skip_text(at, end);
            at = at == NULL ? end : fk_space(at, end);
            if (at >= end || *at != ':')
                return NULL;
            at++;
        }
        at = fk_skip(at, end, depth + 1);
        at = at == NULL ? end : fk_space(at, end);
        if (at >= end)
            return NULL;
        if (*at == last)
            return at + 1;
        if (*at != ',')
            return NULL;
        at = fk_space(at + 1, end);
    }
    return NULL;
}

static const char *fk_skip(const char *at, const char *end, int depth)
{
    at = fk_space(at, end);
    if (at >= end || depth > FK_MAX_DEPTH)
        return NULL;
    switch (*at) {
    case '{':
    case '[':
        return fk_skip_many(at, end, depth);
    case '"':
        return fk_skip_text(at, end);
    case 't':
        return fk_skip_word(at, end, "true");
    case 'f':
        return fk_skip_word(at, end, "false");
    case 'n':
        return fk_skip_word(at, end, "null");
    default:
        return fk_skip_number(at, end);
    }
}

/* Whether this is one JSON value in UTF-8 and nothing else; what looks into it afterwards relies on that. */
static int fk_is_json(struct fk_json json)
{
    const unsigned char *at = (const unsigned char *)json.at;
    size_t left = (size_t)(json.end - json.at);
    const char *behind;
    while (left > 0) {
        uint32_t character;
        size_t length = fk_character(at, left, &character);
        if (length == 0)
            return 0;
        at += length;
        left -= length;
    }
    behind = fk_skip(json.at, json.end, 0);
    return behind != NULL && fk_space(behind, json.end) == json.end;
}

static void fk_append(char *text, size_t size, size_t *length, uint32_t it)
{
    char bytes[4];
    size_t count = 0;
    if (!fk_is_printable(it))
        it = '?';                   /* nobody paints on a terminal, and nothing ends a C string early */
    if (it < 0x80) {
        bytes[count++] = (char)it;
    } else if (it < 0x800) {
        bytes[count++] = (char)(0xC0 | it >> 6);
    } else if (it < 0x10000) {
        bytes[count++] = (char)(0xE0 | it >> 12);
        bytes[count++] = (char)(0x80 | (it >> 6 & 0x3F));
    } else {
        bytes[count++] = (char)(0xF0 | it >> 18);
        bytes[count++] = (char)(0x80 | (it >> 12 & 0x3F));
        bytes[count++] = (char)(0x80 | (it >> 6 & 0x3F));
    }
    if (it >= 0x80)
        bytes[count++] = (char)(0x80 | (it & 0x3F));
    if (*length + count + 1 > size)
        return;                     /* whole characters only; the rest is left out */
    memcpy(text + *length, bytes, count);
    *length += count;
    text[*length] = '\0';
}

/* The character of an escape at `*at`, which is moved behind it; halves of pairs are put together. */
static uint32_t fk_unescape(const char **at, const char *end)
{
    static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
    char it = *(*at)++;
    long high, low;
    const char *place = strchr(from, it);
    if (place != NULL)
        return (uint32_t)to[place - from];
    if (it != 'u')
        return (uint32_t)it;
    high = fk_hex(*at, end);
    *at += 4;
    if (high < 0xD800 || high > 0xDBFF || end - *at < 6 || (*at)[0] != '\\' || (*at)[1] != 'u')
        return (uint32_t)high;
    low = fk_hex(*at + 2, end);
    if (low < 0xDC00 || low > 0xDFFF)
        return (uint32_t)high;
    *at += 6;
    return 0x10000 + ((uint32_t)(high - 0xD800) << 10) + (uint32_t)(low - 0xDC00);
}

/* A text, shortened to what there is room for; 0 where the value is none. */
static int fk_text_of(struct fk_json value, char *text, size_t size)
{
    const char *at = value.at + 1, *end = value.end - 1;
    size_t length = 0;
    text[0] = '\0';
    if (*value.at != '"')
        return 0;
    while (at < end) {
        uint32_t character = 0;
        if (*at == '\\') {
            at++;
            character = fk_unescape(&at, end);
        } else {
            at += fk_character((const unsigned char *)at, (size_t)(end - at), &character);
        }
        fk_append(text, size, &length, character);
    }
    return 1;
}

/* A whole number of at most 15 digits; 0 where the value is none. */
static int fk_number_of(struct fk_json value, long long *number)
{
    const char *at = value.at;
    int negative = *at == '-';
    at += negative;
    if (at >= value.end || value.end - at > 15)
        return 0;
    for (*number = 0; at < value.end; at++) {
        if (*at < '0' || *at > '9')
            return 0;
        *number = *number * 10 + (*at - '0');
    }
    *number = negative ? -*number : *number;
    return 1;
}

/* The member of that name, the last one where there are several; 0 where it is left out, null, or this is no object. */
static int fk_member(struct fk_json object, const char *name, struct fk_json *value)
{
    const char *at = object.at;
    int found = 0;
    if (*at != '{')
        return 0;
    at = fk_space(at + 1, object.end);
    while (*at == '"') {
        struct fk_json named, it;
        char called[32];
        named.at = at;
        named.end = fk_skip_text(at, object.end);
        it.at = fk_space(fk_space(named.end, object.end) + 1, object.end);
        it.end = fk_skip(it.at, object.end, 0);
        fk_text_of(named, called, sizeof called);
        if (strcmp(called, name) == 0) {
            found = *it.at != 'n';
            *value = it;
        }
        at = fk_space(it.end, object.end);
        if (*at == ',')
            at = fk_space(at + 1, object.end);
    }
    return found;
}

/* Optional members: 1 as long as they are left out or of the right type. */
static int fk_text_member(struct fk_json object, const char *name, char *text, size_t size)
{
    struct fk_json value;
    text[0] = '\0';
    return !fk_member(object, name, &value) || fk_text_of(value, text, size);
}

static int fk_number_member(struct fk_json object, const char *name, long long *number)
{
    struct fk_json value;
    *number = -1;
    return !fk_member(object, name, &value) || fk_number_of(value, number);
}

/* ------------------------------------------------------------------ one question and its reply */

enum fk_outcome {
    FK_ANSWERED,
    FK_REFUSED,                     /* asking again would bring the same */
    FK_FORBIDDEN,                   /* so it would, until this user is let in */
    FK_BUSY,                        /* an error that says nothing about the question */
    FK_AWAY,
    FK_STALE,                       /* a connection that had worked is gone, before a byte of the reply */
    FK_SLOW,
    FK_GARBLED
};

static long long fk_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void fk_disconnect(struct fk_client *client)
{
    if (client->socket >= 0)
        close(client->socket);
    client->socket = -1;
    client->worked = 0;
}

/* What came over a fork() is the parent's: its socket is closed here and its queue forgotten, both unused. */
static void fk_own_process(struct fk_client *client)
{
    if (client->process == getpid())
        return;
    fk_disconnect(client);
    while (client->queued > 0)
        free(client->queue[--client->queued]);
    client->lost = 0;
    client->rests_until = 0;
    client->process = getpid();
}

static enum fk_outcome fk_trouble(struct fk_client *client, enum fk_outcome outcome, const char *what)
{
    snprintf(client->trouble, sizeof client->trouble, "%.150s (%.90s)", what, client->path);
    return outcome;
}

/* Wait until the socket can be read or written; 0 when the time is over. */
static int fk_wait(int socket, short events, long long deadline)
{
    for (;;) {
        long long left = deadline - fk_now();
        struct pollfd polled;
        int ready;
        polled.fd = socket;
        polled.events = events;
        polled.revents = 0;
        ready = poll(&polled, 1, left > 0 ? (int)left : 0);
        if (ready > 0)
            return 1;
        if (ready == 0 || errno != EINTR)
            return 0;
    }
}

static int fk_connect_by(int opened, const struct sockaddr_un *address, long long deadline)
{
    static const struct timespec pause = {0, FK_BACKLOG_PAUSE_MS * 1000000L};
    while (connect(opened, (const struct sockaddr *)address, sizeof *address) != 0 && errno != EISCONN) {
        if (errno == EINPROGRESS || errno == EALREADY) {
            if (!fk_wait(opened, POLLOUT, deadline))
                return ETIMEDOUT;
        } else if (errno == EAGAIN) {
            nanosleep(&pause, NULL);
        } else if (errno != EINTR) {
            return errno;
        }
        if (fk_now() >= deadline)
            return ETIMEDOUT;
    }
    return 0;
}

static enum fk_outcome fk_connect(struct fk_client *client, long long deadline)
{
    struct sockaddr_un address;
    char why[128];
    int error, opened = socket(AF_UNIX, SOCK_STREAM, 0);
    if (opened < 0)
        return fk_trouble(client, FK_AWAY, "this process cannot open a socket");
    if (fcntl(opened, F_SETFD, FD_CLOEXEC) < 0 || fcntl(opened, F_SETFL, O_NONBLOCK) < 0) {
        close(opened);
        return fk_trouble(client, FK_AWAY, "this process cannot prepare a socket");
    }
    memset(&address, 0, sizeof address);
    address.sun_family = AF_UNIX;
    strcpy(address.sun_path, client->path);
    error = fk_connect_by(opened, &address, deadline);
    if (error == 0) {
        client->socket = opened;
        return FK_ANSWERED;
    }
    close(opened);
    if (error == EACCES || error == EPERM)
        return fk_trouble(client, FK_FORBIDDEN, "this user may not open the socket");
    if (strerror_r(error, why, sizeof why) != 0)    /* strerror() belongs to all threads together */
        strcpy(why, "it cannot be reached");
    return fk_trouble(client, error == ETIMEDOUT ? FK_SLOW : FK_AWAY, why);
}

/* Whether the connection is open with nothing in it: neither its end nor a stray reply. */
static int fk_is_fit(const struct fk_client *client)
{
    char byte;
    ssize_t there = recv(client->socket, &byte, 1, MSG_PEEK);
    return there < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
}

static enum fk_outcome fk_send(struct fk_client *client, const struct fk_text *message, long long deadline)
{
    size_t sent = 0;
    while (sent < message->length) {
        ssize_t some = send(client->socket, message->bytes + sent, message->length - sent, MSG_NOSIGNAL);
        if (some >= 0)
            sent += (size_t)some;
        else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            if (!fk_wait(client->socket, POLLOUT, deadline))
                return fk_trouble(client, FK_SLOW, "the daemon does not take the question");
        } else if (errno != EINTR) {
            return fk_trouble(client, client->worked ? FK_STALE : FK_AWAY, "the connection ended while asking");
        }
    }
    return FK_ANSWERED;
}

/* Read up to the NUL that ends the reply; `json` is what stands before it. */
static enum fk_outcome fk_receive(struct fk_client *client, long long deadline, struct fk_json *json)
{
    struct fk_text *reply = &client->reply;
    reply->length = 0;
    reply->failed = 0;
    for (;;) {
        char chunk[8192];
        ssize_t some = recv(client->socket, chunk, sizeof chunk, 0);
        if (some > 0) {
            const char *nul = memchr(chunk, '\0', (size_t)some);
            fk_add(reply, chunk, nul == NULL ? (size_t)some : (size_t)(nul - chunk));
            if (reply->failed || reply->length > FK_MAX_REPLY)
                return fk_trouble(client, FK_GARBLED, "the reply is too long");
            if (nul != NULL && nul != chunk + some - 1)
                return fk_trouble(client, FK_GARBLED, "there is more than one reply");
            if (nul != NULL)
                break;
        } else if (some == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)) {
            int stale = client->worked && reply->length == 0;
            return fk_trouble(client, stale ? FK_STALE : FK_AWAY, "the connection ended before the answer");
        } else if (errno != EINTR && !fk_wait(client->socket, POLLIN, deadline)) {
            return fk_trouble(client, FK_SLOW, "no answer in time");
        }
        if (fk_now() >= deadline)   /* also where bytes trickle in without an end */
            return fk_trouble(client, FK_SLOW, "no whole answer in time");
    }
    json->at = reply->bytes;
    json->end = reply->bytes + reply->length;
    return FK_ANSWERED;
}

static enum fk_outcome fk_meaning(const char *error)
{
    if (strcmp(error, FK_INTERFACE "UnexpectedCondition") == 0 || strcmp(error, FK_INTERFACE "TooManyConnections") == 0)
        return FK_BUSY;
    return strcmp(error, "org.varlink.service.PermissionDenied") == 0 ? FK_FORBIDDEN : FK_REFUSED;
}

/* Take the reply apart: its parameters, or what its error means. */
static enum fk_outcome fk_read(struct fk_client *client, struct fk_json json, struct fk_json *parameters)
{
    struct fk_json value;
    char error[128];
    if (json.at == json.end || !fk_is_json(json))
        return fk_trouble(client, FK_GARBLED, "the reply is not JSON");
    json.at = fk_space(json.at, json.end);
    if (*json.at != '{' || !fk_text_member(json, "error", error, sizeof error))
        return fk_trouble(client, FK_GARBLED, "the reply is not one of Varlink");
    if (fk_member(json, "error", &value))
        return fk_trouble(client, fk_meaning(error), error);
    if (fk_member(json, "continues", &value) && *value.at != 'f')
        return fk_trouble(client, FK_GARBLED, "several replies to one question");
    if (!fk_member(json, "parameters", parameters) || *parameters->at != '{')
        return fk_trouble(client, FK_GARBLED, "the reply has no parameters");
    return FK_ANSWERED;
}

static enum fk_outcome fk_attempt(
    struct fk_client *client, const struct fk_text *message, long long deadline, struct fk_json *parameters,
    int *doubtful)
{
    struct fk_json json = {NULL, NULL};
    enum fk_outcome outcome = FK_ANSWERED, sent;
    if (client->socket >= 0 && !fk_is_fit(client))
        fk_disconnect(client);
    if (client->socket < 0)
        outcome = fk_connect(client, deadline);
    if (outcome != FK_ANSWERED)
        return outcome;
    sent = fk_send(client, message, deadline);
    /* Where the daemon closed a new connection at once, it has said why. */
    outcome = sent == FK_ANSWERED || sent == FK_AWAY ? fk_receive(client, deadline, &json) : sent;
    if (outcome == FK_ANSWERED)
        outcome = fk_read(client, json, parameters);
    *doubtful |= sent == FK_ANSWERED && outcome > FK_FORBIDDEN;
    if (outcome <= FK_BUSY && client->socket >= 0)
        client->worked = 1;
    else
        fk_disconnect(client);      /* a late reply shall not be taken for the next answer */
    return outcome;
}

/* Ask; `doubtful`: the daemon may have done it all the same. The `parameters` hold until the next question. */
static enum fk_outcome fk_ask(
    struct fk_client *client, const char *method, const struct fk_text *said, long long deadline,
    struct fk_json *parameters, int *doubtful)
{
    struct fk_text message = {NULL, 0, 0, 0};
    enum fk_outcome outcome = FK_AWAY;
    fk_put(&message, "{\"method\":\"" FK_INTERFACE);
    fk_put(&message, method);
    fk_put(&message, "\",\"parameters\":");
    fk_add(&message, said->bytes == NULL ? "" : said->bytes, said->length);
    fk_add(&message, "}", 2);       /* with the NUL that ends it */
    *doubtful = 0;
    if (message.failed || said->failed) {
        fk_trouble(client, FK_AWAY, "there is no memory");
    } else {
        outcome = fk_attempt(client, &message, deadline, parameters, doubtful);
        if (outcome == FK_STALE)
            outcome = fk_attempt(client, &message, deadline, parameters, doubtful);
    }
    free(message.bytes);
    if (outcome >= FK_AWAY)
        client->rests_until = fk_now() + client->cool_down_ms;
    return outcome;
}

/* ------------------------------------------------------------------ releases, delivered or queued */

static void fk_unqueue(struct fk_client *client, const char *key)
{
    size_t i;
    for (i = 0; i < client->queued && strcmp(client->queue[i], key) != 0; i++)
        ;
    if (i == client->queued)
        return;
    free(client->queue[i]);
    client->queued--;
    memmove(client->queue + i, client->queue + i + 1, (client->queued - i) * sizeof client->queue[0]);
}

static void fk_enqueue(struct fk_client *client, const char *key)
{
    char *kept = strdup(key);
    fk_unqueue(client, key);
    if (kept == NULL || client->queued == FK_MAX_QUEUE)
        client->lost++;
    if (kept == NULL)
        return;
    if (client->queued == FK_MAX_QUEUE) {
        char oldest[FK_KEY_BYTES];
        snprintf(oldest, sizeof oldest, "%s", client->queue[0]);
        fk_unqueue(client, oldest);
    }
    client->queue[client->queued++] = kept;
}

/* The same key at the front: before it is taken afresh it is released. */
static void fk_advance(struct fk_client *client, const char *key)
{
    size_t i;
    for (i = 0; i < client->queued; i++) {
        if (strcmp(client->queue[i], key) == 0) {
            char *it = client->queue[i];
            memmove(client->queue + 1, client->queue, i * sizeof client->queue[0]);
            client->queue[0] = it;
            return;
        }
    }
}

static enum fk_outcome fk_deliver(struct fk_client *client, const char *key, long long deadline, int *released)
{
    struct fk_text said = {NULL, 0, 0, 0};
    struct fk_json parameters, value;
    enum fk_outcome outcome;
    int doubtful;
    fk_put(&said, "{\"holder\":");
    fk_put_text(&said, client->holder);
    fk_put_member(&said, "key", key);
    fk_put(&said, "}");
    outcome = fk_ask(client, "Release", &said, deadline, &parameters, &doubtful);
    free(said.bytes);
    *released = outcome == FK_ANSWERED && fk_member(parameters, "released", &value) && *value.at == 't';
    return outcome;
}

/* Deliver queued releases until `until`; `freed` becomes true where `key` is among those that freed a lease. */
static enum fk_outcome fk_flush(struct fk_client *client, long long until, const char *key, int *freed)
{
    while (client->queued > 0 && fk_now() < until) {
        char first[FK_KEY_BYTES];
        int released;
        enum fk_outcome outcome;
        snprintf(first, sizeof first, "%s", client->queue[0]);
        outcome = fk_deliver(client, first, until, &released);
        if (outcome != FK_ANSWERED && outcome != FK_REFUSED)
            return outcome;
        client->lost += outcome == FK_REFUSED;
        *freed |= released && strcmp(first, key) == 0;
        fk_unqueue(client, first);
    }
    return FK_ANSWERED;
}

/* ------------------------------------------------------------------ what a switch calls */

#define FK_EMERGENCY_URN "urn:service:sos" /* RFC 5031; with a dot and a word behind it one of the services */

static const char *const fk_emergency_numbers[] = {"112", "911", NULL};

/* Prepare a client; nothing is opened yet. -1 where the name or the path cannot be. */
int fk_open(struct fk_client *client, const char *holder, const char *path)
{
    char carried[FK_KEY_BYTES];
    memset(client, 0, sizeof *client);
    client->socket = -1;
    client->process = getpid();
    client->time_limit_ms = FK_TIME_LIMIT_MS;
    client->cool_down_ms = FK_COOL_DOWN_MS;
    client->emergency_numbers = fk_emergency_numbers;
    if (path == NULL)
        path = FK_SOCKET;
    if (strlen(path) >= sizeof client->path || !fk_carry(holder, FK_MAX_HOLDER, carried) ||
        strcmp(carried, holder) != 0)
        return -1;
    strcpy(client->holder, carried);
    strcpy(client->path, path);
    return 0;
}

void fk_close(struct fk_client *client)
{
    fk_own_process(client);
    fk_disconnect(client);
    while (client->queued > 0)
        free(client->queue[--client->queued]);
    free(client->reply.bytes);
    memset(&client->reply, 0, sizeof client->reply);
}

/* The dialed number without the space around it; empty for one that cannot be carried. */
static void fk_trim(const char *dialed, char trimmed[FK_MAX_DIALED + 1])
{
    size_t length, i;
    trimmed[0] = '\0';
    if (dialed == NULL)
        return;
    dialed += strspn(dialed, " \t\r\n");
    length = strlen(dialed);
    while (length > 0 && strchr(" \t\r\n", dialed[length - 1]) != NULL)
        length--;
    for (i = 0; i < length; i++)
        if (dialed[i] < 0x20 || dialed[i] > 0x7E || length > FK_MAX_DIALED)
            return;
    memcpy(trimmed, dialed, length);
    trimmed[length] = '\0';
}

static int fk_is_emergency(const struct fk_client *client, const struct fk_request *request, const char *dialed)
{
    const char *const *number;
    for (number = client->emergency_numbers; number != NULL && *number != NULL; number++)
        if (strcmp(dialed, *number) == 0)
            return 1;
    if (strncasecmp(dialed, FK_EMERGENCY_URN, sizeof FK_EMERGENCY_URN - 1) == 0 &&
        (dialed[sizeof FK_EMERGENCY_URN - 1] == '\0' || dialed[sizeof FK_EMERGENCY_URN - 1] == '.'))
        return 1;
    return request->emergency;
}

static void fk_say(
    const struct fk_client *client, const struct fk_request *request, const char *key, const char *dialed,
    struct fk_text *said)
{
    char place[4 * FK_MAX_PLACE + 1];
    size_t i;
    fk_put(said, "{\"holder\":");
    fk_put_text(said, client->holder);
    fk_put_member(said, "key", key);
    fk_put(said, ",\"wants\":[");
    for (i = 0; i < request->want_count; i++) {
        char number[32];
        fk_put(said, i > 0 ? ",{\"feature\":" : "{\"feature\":");
        fk_put_text(said, request->wants[i].feature);
        snprintf(number, sizeof number, ",\"instances\":%d}", request->wants[i].instances);
        fk_put(said, number);
    }
    fk_put(said, "]");
    if (fk_carry(request->port, FK_MAX_PLACE, place))
        fk_put_member(said, "port", place);
    if (fk_carry(request->channel, FK_MAX_PLACE, place))
        fk_put_member(said, "channel", place);
    fk_put_member(said, "dialed", dialed);
    fk_put_member(said, "phase", request->phase);
    fk_put_member(said, "class", request->emergency ? "emergency" : NULL);
    fk_put(said, "}");
}

/* The answer in the parameters of a reply; 0 where they are none. */
static int fk_read_answer(struct fk_json parameters, struct fk_answer *answer)
{
    struct fk_json allowed, reason;
    if (!fk_member(parameters, "allowed", &allowed) || (*allowed.at != 't' && *allowed.at != 'f') ||
        !fk_member(parameters, "reason", &reason) || !fk_text_of(reason, answer->reason, sizeof answer->reason))
        return 0;
    answer->allowed = *allowed.at == 't';
    answer->from_daemon = 1;
    return fk_text_member(parameters, "feature", answer->feature, sizeof answer->feature) &&
        fk_number_member(parameters, "limit", &answer->limit) &&
        fk_number_member(parameters, "in_use", &answer->in_use) &&
        fk_text_member(parameters, "message", answer->message, sizeof answer->message);
}

static void fk_make_answer(struct fk_answer *answer, int allowed, const char *reason, const char *message)
{
    memset(answer, 0, sizeof *answer);
    answer->allowed = allowed;
    answer->limit = answer->in_use = -1;
    snprintf(answer->reason, sizeof answer->reason, "%s", reason);
    snprintf(answer->message, sizeof answer->message, "%s", message);
}

static enum fk_outcome fk_acquire_key(
    struct fk_client *client, const struct fk_request *request, const char *key, const char *dialed,
    struct fk_answer *answer)
{
    struct fk_text said = {NULL, 0, 0, 0};
    struct fk_json parameters;
    long long now = fk_now();
    int freed = 0, doubtful = 0;
    enum fk_outcome outcome = FK_AWAY;
    if (now >= client->rests_until) {
        fk_advance(client, key);
        outcome = fk_flush(client, now + client->time_limit_ms / FK_FLUSH_SHARE, key, &freed);
        if (outcome == FK_ANSWERED) {
            fk_say(client, request, key, dialed, &said);
            outcome = fk_ask(client, "Acquire", &said, now + client->time_limit_ms, &parameters, &doubtful);
            free(said.bytes);
        }
    }
    if (outcome == FK_ANSWERED && !fk_read_answer(parameters, answer)) {
        fk_disconnect(client);
        client->rests_until = fk_now() + client->cool_down_ms;
        outcome = fk_trouble(client, FK_GARBLED, "the reply is no answer");
        doubtful = 1;
    }
    if (doubtful && (request->phase == NULL || strcmp(request->phase, "established") != 0))
        fk_enqueue(client, key);    /* not of a call that is up: that would take its lease away */
    return outcome;
}

/*
 * Take what the call needs, all of it or nothing; takes 250 ms at most and fails in no other way than by its answer.
 * Ask again for a call that is up with the phase "established" only: of any other a doubtful answer is given back.
 */
void fk_acquire(struct fk_client *client, const struct fk_request *request, struct fk_answer *answer)
{
    char key[FK_KEY_BYTES], dialed[FK_MAX_DIALED + 1];
    int emergency, usable;
    enum fk_outcome outcome = FK_REFUSED;
    fk_own_process(client);
    fk_trim(request->dialed, dialed);
    emergency = fk_is_emergency(client, request, dialed);
    usable = fk_carry(request->key, FK_MAX_KEY, key) && request->want_count <= FK_MAX_WANTS;
    if (usable)
        outcome = fk_acquire_key(client, request, key, dialed, answer);
    else
        fk_trouble(client, FK_REFUSED, "the switch asks without a key, or for too many features");
    if (outcome == FK_REFUSED || outcome == FK_FORBIDDEN)
        fk_make_answer(answer, 0, "refused", client->trouble);
    else if (outcome != FK_ANSWERED)
        fk_make_answer(answer, request->fail_open, "daemon_away", client->trouble);
    if (emergency && !(answer->allowed && answer->from_daemon))
        fk_make_answer(answer, 1, "emergency", "");
    if (usable && answer->allowed)
        fk_unqueue(client, key);    /* the call is alive: its own end will release the key */
}

/* Give back what the key holds: 1 when that freed a lease, 0 when it held nothing, -1 when the release is queued. */
int fk_release(struct fk_client *client, const char *key)
{
    char carried[FK_KEY_BYTES];
    int freed = 0;
    size_t i;
    long limit;
    long long now = fk_now();
    fk_own_process(client);
    if (!fk_carry(key, FK_MAX_KEY, carried))
        return 0;
    fk_enqueue(client, carried);
    limit = now < client->rests_until ? client->time_limit_ms / FK_COOL_SHARE : client->time_limit_ms;
    fk_flush(client, now + limit, carried, &freed);
    for (i = 0; i < client->queued; i++)
        if (strcmp(client->queue[i], carried) == 0)
            return -1;
    return freed;
}

/* How the call stands: 1 when the daemon has it, 0 when not, -1 when that cannot be told (`trouble` says why). */
int fk_find(struct fk_client *client, const char *key, struct fk_call *call)
{
    struct fk_text said = {NULL, 0, 0, 0};
    struct fk_json parameters, leases, lease;
    char carried[FK_KEY_BYTES];
    enum fk_outcome outcome;
    int doubtful;
    memset(call, 0, sizeof *call);
    fk_own_process(client);
    if (!fk_carry(key, FK_MAX_KEY, carried))
        return 0;
    fk_put(&said, "{\"holder\":");
    fk_put_text(&said, client->holder);
    fk_put_member(&said, "call", carried);
    fk_put(&said, "}");
    outcome = fk_ask(client, "FindCall", &said, fk_now() + client->time_limit_ms, &parameters, &doubtful);
    free(said.bytes);
    if (outcome != FK_ANSWERED)
        return -1;
    if (!fk_member(parameters, "leases", &leases) || *leases.at != '[') {
        fk_trouble(client, FK_GARBLED, "the reply names no leases");
        return -1;
    }
    lease.at = fk_space(leases.at + 1, leases.end);
    if (*lease.at == ']')
        return 0;
    lease.end = fk_skip(lease.at, leases.end, 0);
    if (*lease.at != '{' || !fk_text_member(lease, "key", call->key, sizeof call->key) ||
        !fk_text_member(lease, "phase", call->phase, sizeof call->phase) ||
        !fk_text_member(lease, "port", call->port, sizeof call->port) ||
        !fk_text_member(lease, "channel", call->channel, sizeof call->channel) ||
        !fk_number_member(lease, "age_seconds", &call->age_seconds)) {
        fk_trouble(client, FK_GARBLED, "the reply names a lease that is none");
        return -1;
    }
    return 1;
}

/* ------------------------------------------------------------------ a program to try it with */
#ifndef FK_WITHOUT_MAIN

/*
 * One question on each line, its fields separated by tabs; one line of answer to each:
 *
 *     acquire KEY [FEATURE[:N]...] [port=P] [channel=C] [dialed=D] [phase=P] [emergency] [open]
 *             -> allowed or denied, reason, feature, in use, limit, daemon or client, message
 *     fork KEY ...        the same, asked by a child of this process
 *     release KEY         -> released, nothing or queued
 *     find KEY            -> there, phase, port, channel, age; or none; or unknown and why
 *     pending             -> releases that wait, and those that were given up
 */
static void fk_try_acquire(struct fk_client *client, char **fields, size_t count)
{
    struct fk_want wants[FK_MAX_WANTS + 1];
    struct fk_request request;
    struct fk_answer answer;
    size_t i;
    memset(&request, 0, sizeof request);
    request.key = fields[0];
    request.wants = wants;
    for (i = 1; i < count; i++) {
        char *value = strchr(fields[i], '=');
        if (strcmp(fields[i], "emergency") == 0) {
            request.emergency = 1;
        } else if (strcmp(fields[i], "open") == 0) {
            request.fail_open = 1;
        } else if (value != NULL) {
            *value++ = '\0';
            if (strcmp(fields[i], "port") == 0)
                request.port = value;
            else if (strcmp(fields[i], "channel") == 0)
                request.channel = value;
            else if (strcmp(fields[i], "dialed") == 0)
                request.dialed = value;
            else if (strcmp(fields[i], "phase") == 0)
                request.phase = value;
        } else if (request.want_count <= FK_MAX_WANTS) {
            char *number = strchr(fields[i], ':');
            if (number != NULL)
                *number++ = '\0';
            wants[request.want_count].feature = fields[i];
            wants[request.want_count++].instances = number == NULL ? 1 : atoi(number);
        }
    }
    fk_acquire(client, &request, &answer);
    printf("%s\t%s\t%s\t%lld\t%lld\t%s\t%s\n", answer.allowed ? "allowed" : "denied", answer.reason, answer.feature,
        answer.in_use, answer.limit, answer.from_daemon ? "daemon" : "client", answer.message);
}

static void fk_try(struct fk_client *client, char **fields, size_t count)
{
    static const char *const released[] = {"queued", "nothing", "released"};
    struct fk_call call;
    if (strcmp(fields[0], "acquire") == 0 && count > 1) {
        fk_try_acquire(client, fields + 1, count - 1);
    } else if (strcmp(fields[0], "fork") == 0 && count > 1) {
        pid_t child = fork();
        if (child == 0) {
            fk_try_acquire(client, fields + 1, count - 1);
            fflush(stdout);
            fk_close(client);
            _exit(0);
        }
        waitpid(child, NULL, 0);
    } else if (strcmp(fields[0], "release") == 0 && count > 1) {
        printf("%s\n", released[fk_release(client, fields[1]) + 1]);
    } else if (strcmp(fields[0], "find") == 0 && count > 1) {
        int found = fk_find(client, fields[1], &call);
        if (found > 0)
            printf("there\t%s\t%s\t%s\t%lld\n", call.phase, call.port, call.channel, call.age_seconds);
        else
            printf("%s\t%s\n", found < 0 ? "unknown" : "none", found < 0 ? client->trouble : "");
    } else if (strcmp(fields[0], "pending") == 0) {
        printf("%lu\t%lu\n", (unsigned long)client->queued, client->lost);
    } else {
        printf("what?\n");
    }
}

int main(int count, char **arguments)
{
    static struct fk_client client;
    char *line = NULL;
    size_t room = 0;
    if (count < 2 || fk_open(&client, arguments[1], count > 2 ? arguments[2] : NULL) != 0) {
        fprintf(stderr, "usage: featurekey_example HOLDER [SOCKET [COOL_DOWN_MS [TIME_LIMIT_MS]]]\n");
        return 2;
    }
    if (count > 3)
        client.cool_down_ms = atol(arguments[3]);
    if (count > 4)
        client.time_limit_ms = atol(arguments[4]);
    while (getline(&line, &room, stdin) > 0) {
        char *fields[16], *rest = line;
        size_t found = 0;
        line[strcspn(line, "\n")] = '\0';
        while (rest != NULL && found < sizeof fields / sizeof fields[0]) {
            char *tab = strchr(rest, '\t');
            fields[found++] = rest;
            rest = tab;
            if (tab != NULL)
                *rest++ = '\0';
        }
        fk_try(&client, fields, found);
        fflush(stdout);
    }
    free(line);
    fk_close(&client);
    return 0;
}
#endif

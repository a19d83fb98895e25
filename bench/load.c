/* The load generator: many WebSocket clients in one thread, which check what they measure.
 *
 *     load PORT PLAN HEAD MODE [name=value ...]
 *
 * PLAN has one line per connection, separated by tabs:
 *
 *     address  role  thread  login  head
 *
 * address   the source address to connect from (the server counts connections by address)
 * role      idle, send, receive, echo (sends, and gets its own frames back), or ask (sends other commands than messages)
 * thread    the number of the conversation, from 0: one sender, any number of receivers
 * login     the login frame, or "-" where nobody logs in
 * head      of a sender: a message up to the value of its cmid, which is made here: "thread-number-nanoseconds"; of one
 *           who asks: a command up to the value of its request_id, or several, separated by tabs, which are sent in turn
 *
 * HEAD is the HTTP request of the handshake, but for the line with the key and the empty line.
 *
 * Modes: closed  each sender keeps `window` messages in flight: the next one leaves with an acknowledgement
 *        rate    `rate` messages a second in even steps over all senders, whatever the server does; latencies count
 *                from when a message was due
 *        hold    log in, answer pings for `measure` seconds
 *        storm   log in, and when the server is gone come back until everybody is logged in again
 *
 * Standard output gets one JSON object a line: {"event": "ready" | "measuring" | "measured" | "result", ...}.
 * While messages are measured there is one more, "sample", every `sample` seconds: the latencies of what has arrived
 * since the one before.
 * A message counts for the measurement when it arrives in it, a latency when its message was sent in it.
 *
 * In each conversation every receiver must get the numbers 0, 1, 2, ... once each and in this order, and so must the
 * sender with the acknowledgements: what is missing, double or strange is counted, and `counts` names the file that
 * says for each thread how many messages were sent and acknowledged, to be compared with the database.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

#define SECOND 1000000000ull
#define BUFFER (8u << 20)   /* the longest frame: the list of a desk with very many guests */
#define LOGIN_LIMIT (15 * SECOND)
#define TICK (10 * 1000000ull)
#define SETTLE (200 * 1000000ull)

enum role { IDLE = 0, SEND = 1, RECEIVE = 2, ECHO = 3, ASK = 4 | SEND };
enum state { CLOSED, CONNECTING, HANDSHAKE, LOGIN, TOLD, OPEN, BROKEN };    /* TOLD: to log in again, later */
enum mode { MODE_CLOSED, MODE_RATE, MODE_HOLD, MODE_STORM };

struct conn {
    int fd;
    enum state state;
    enum role role;
    int writing;                /* waits for EPOLLOUT */
    uint32_t thread;
    uint32_t address;
    long login_key, send_key;
    char *login, **heads;
    size_t login_size, heads_count;
    char *in, *out;             /* what was read of a frame that is not whole; what could not be written yet */
    size_t in_size, out_size;
    uint64_t sent, acked, got;  /* numbers of messages: the next to send, to be acknowledged, to be received */
    uint64_t since, asked;      /* when the attempt to connect began; when something was last asked of the server */
    uint64_t retry_at;          /* when to log in again, or to connect again (storm) */
    uint64_t back_at;           /* storm */
    int lost, failures;
};

/* Log-linear, as HDR histograms are: 128 steps for each power of two, so within 0.8 %. */
#define STEPS 128
struct histogram { uint64_t counts[58 * STEPS], total, max; };

static struct conn *conns;
static size_t conns_count, senders_count;
static struct conn **senders;
static enum mode mode;
static int epoll, timer_fd;
static struct sockaddr_in server;
static char *request;
static size_t request_size;
static char *buffer, *outgoing;
static size_t outgoing_size;
static uint64_t random_state = 88172645463325252ull;

static uint64_t window = 1, rate = 1000, concurrency = 64;
static double sample = 0, warm = 1, measure = 5, drain = 10, limit = 120, login_within = 300, backoff = 1, backoff_most = 30;
static const char *counts_path;

static size_t next_to_start, starting, opened;
static int running;                     /* messages are being sent */
static uint64_t begin_at, end_at, now;
static uint64_t total_sent, total_acked, total_pushed, window_acked, window_pushed, expected_pushes;
static uint64_t refused, duplicate, missing, strange, closed, login_failed, attempts, told, pings;
static uint64_t failed_in[BROKEN + 1];  /* storm: attempts that failed, by how far they came */
static char first_error[400];
static struct histogram ack_times, push_times, login_times, lag_times, sample_acks, sample_pushes;
static uint32_t *receivers_of;

static uint64_t clock_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static double cpu_seconds(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static uint64_t random_next(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static void die(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void *allocate(size_t size)
{
    void *p = calloc(1, size ? size : 1);
    if (!p)
        die("memory");
    return p;
}

/* Only the first error is kept. */
static void note_error(const char *format, ...)
{
    va_list arguments;
    if (first_error[0])
        return;
    va_start(arguments, format);
    vsnprintf(first_error, sizeof first_error, format, arguments);
    va_end(arguments);
    /* It becomes part of a JSON string. */
    for (char *p = first_error; *p; p++)
        if (*p == '"' || *p == '\\' || (unsigned char)*p < ' ' || (unsigned char)*p > '~')
            *p = '\'';
}

/* Histograms. */

static void record(struct histogram *h, uint64_t value)
{
    unsigned shift = value < STEPS ? 0 : 64 - (unsigned)__builtin_clzll(value) - 7;
    size_t place = value < STEPS ? value : shift * STEPS + (value >> (shift - 1)) - STEPS;
    h->counts[place < 58 * STEPS ? place : 58 * STEPS - 1]++;
    h->total++;
    if (value > h->max)
        h->max = value;
}

/* The middle of the step that holds the value below which lies `part` of all, in milliseconds. */
static double quantile(const struct histogram *h, double part)
{
    uint64_t wanted = (uint64_t)(part * (double)h->total + 0.5), seen = 0;
    if (!h->total)
        return 0;
    if (!wanted)
        wanted = 1;
    for (size_t i = 0; i < 58 * STEPS; i++) {
        seen += h->counts[i];
        if (seen >= wanted) {
            unsigned shift = (unsigned)(i / STEPS);
            double value = i < STEPS ? (double)i : ((double)(i % STEPS + STEPS) + 0.5) * (double)(1ull << (shift - 1));
            return (value < (double)h->max ? value : (double)h->max) / 1e6;
        }
    }
    return (double)h->max / 1e6;
}

static void print_histogram(const char *name, const struct histogram *h)
{
    printf("\"%s\": {\"count\": %llu, \"p50\": %.4f, \"p90\": %.4f, \"p99\": %.4f, \"p999\": %.4f, \"max\": %.4f}", name,
           (unsigned long long)h->total, quantile(h, .5), quantile(h, .9), quantile(h, .99), quantile(h, .999),
           (double)h->max / 1e6);
}

/* Connections. */

static void watch(struct conn *c, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(epoll, operation, c->fd, &event))
        die("epoll_ctl");
}

static void drop(struct conn *c)
{
    if (c->state == CONNECTING || c->state == HANDSHAKE || c->state == LOGIN || c->state == TOLD)
        starting--;
    if (c->state == OPEN)
        opened--;
    close(c->fd);
    c->fd = -1;
    free(c->in);
    free(c->out);
    c->in = c->out = NULL;
    c->in_size = c->out_size = 0;
    c->writing = 0;
    c->state = CLOSED;
}

static const char RETRY_AFTER[] = "\"retry_after_ms\":";

/* The connection is gone, or has failed: in a storm it comes back as docs/integration.md asks of clients, after 1, 2, 4
 * ... 30 s, each times a random number between a half and one, and what the server asked for in addition. A login that is
 * told to come later (-9997) is no failure: it is sent again then, on the same connection. */
static void lose(struct conn *c, const char *why)
{
    int was_open = c->state == OPEN;
    enum state was = c->state;
    drop(c);
    if (mode != MODE_STORM || (!was_open && !c->lost)) {
        *(was_open ? &closed : &login_failed) += 1;
        note_error("%s", why);
        c->state = BROKEN;
        return;
    }
    if (was_open) {
        c->lost = 1;
        c->failures = 0;
    } else {
        if (was > CONNECTING && !first_error[0])
            note_error("%s", why);
        failed_in[was]++;
    }
    double delay = backoff * (double)(1u << (c->failures < 10 ? c->failures : 10));
    if (delay > backoff_most)
        delay = backoff_most;
    c->failures++;
    delay *= 0.5 + (double)(random_next() % 10000) / 20000;
    const char *asked = strstr(why, RETRY_AFTER);
    if (asked)
        delay += strtod(asked + sizeof RETRY_AFTER - 1, NULL) / 1000;
    c->retry_at = now + (uint64_t)(delay * 1e9);
}

static void start(struct conn *c)
{
    struct sockaddr_in source = {.sin_family = AF_INET, .sin_addr.s_addr = c->address};
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        die("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (bind(c->fd, (struct sockaddr *)&source, sizeof source))
        die("bind");
    attempts++;
    starting++;
    c->since = c->asked = now;
    c->retry_at = 0;
    c->state = CONNECTING;
    if (connect(c->fd, (struct sockaddr *)&server, sizeof server) && errno != EINPROGRESS) {
        lose(c, strerror(errno));
        return;
    }
    watch(c, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT);
    c->writing = 1;
}

/* Frames out: they gather in `outgoing`, and leave in one write. */

static void put(const char *data, size_t size)
{
    memcpy(outgoing + outgoing_size, data, size);
    outgoing_size += size;
}

static void put_frame(int opcode, const char *payload, size_t size)
{
    unsigned char *out = (unsigned char *)outgoing + outgoing_size;
    uint32_t key = (uint32_t)random_next();
    uint64_t wide = (uint64_t)key << 32 | key, word;
    size_t i = 0, at = 2;
    out[0] = (unsigned char)(0x80 | opcode);
    if (size < 126) {
        out[1] = (unsigned char)(0x80 | size);
    } else {
        out[1] = 0x80 | 126;
        out[2] = (unsigned char)(size >> 8);
        out[3] = (unsigned char)size;
        at = 4;
    }
    memcpy(out + at, &key, 4);
    out += at + 4;
    for (; i + 8 <= size; i += 8) {
        memcpy(&word, payload + i, 8);
        word ^= wide;
        memcpy(out + i, &word, 8);
    }
    for (; i < size; i++)
        out[i] = (unsigned char)payload[i] ^ ((unsigned char *)&key)[i & 3];
    outgoing_size += at + 4 + size;
}

static void put_message(struct conn *c, uint64_t stamp)
{
    char message[4096];
    int size = snprintf(message, sizeof message, "%s%u-%llu-%llu\"}", c->heads[c->sent % c->heads_count], c->thread,
                        (unsigned long long)c->sent, (unsigned long long)stamp);
    c->sent++;
    total_sent++;
    expected_pushes += receivers_of[c->thread];
    put_frame(1, message, (size_t)size);
}

static void write_out(struct conn *c)
{
    if (c->out_size) {
        c->out = realloc(c->out, c->out_size + outgoing_size);
        memcpy(c->out + c->out_size, outgoing, outgoing_size);
        c->out_size += outgoing_size;
    } else if (outgoing_size) {
        ssize_t written = write(c->fd, outgoing, outgoing_size);
        size_t done = written > 0 ? (size_t)written : 0;
        if (done < outgoing_size) {
            c->out_size = outgoing_size - done;
            c->out = realloc(c->out, c->out_size);
            memcpy(c->out, outgoing + done, c->out_size);
        }
    }
    outgoing_size = 0;
    if (c->out_size && !c->writing) {
        c->writing = 1;
        watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
    }
}

static void on_writable(struct conn *c)
{
    if (c->state == CONNECTING) {
        static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        char key[64] = "Sec-WebSocket-Key: ";
        size_t size = strlen(key);
        int error = 0;
        socklen_t length = sizeof error;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &length);
        if (error) {
            lose(c, strerror(error));
            return;
        }
        for (int i = 0; i < 21; i++)
            key[size++] = digits[random_next() >> 58];
        memcpy(key + size, "A==\r\n\r\n", 7);
        c->state = HANDSHAKE;
        put(request, request_size);
        put(key, size + 7);
        write_out(c);
    } else if (c->out_size) {
        ssize_t written = write(c->fd, c->out, c->out_size);
        if (written > 0) {
            c->out_size -= (size_t)written;
            memmove(c->out, c->out + written, c->out_size);
        }
    }
    if (!c->out_size && c->writing && c->state != CLOSED) {
        c->writing = 0;
        watch(c, EPOLL_CTL_MOD, EPOLLIN);
    }
}

/* Frames in. */

static long key_of(const char *text, size_t size)
{
    static const char name[] = "\"api_key\":";
    const char *found = memmem(text, size, name, sizeof name - 1);
    return found ? strtol(found + sizeof name - 1, NULL, 10) : -1;
}

static int succeeded(const char *text, size_t size)
{
    static const char status[] = "\"status\":\"Success\"";
    size_t tail = size < 200 ? size : 200;
    return memmem(text + size - tail, tail, status, sizeof status - 1) != NULL;
}

static const char CMID[] = "\"cmid\":\"", REQUEST_ID[] = "\"request_id\":\"", TOO_MANY[] = "\"code\":-9997";

/* What put_message made, under this name in a frame. */
static int mark_of(const char *name, const char *text, size_t size, uint64_t *thread, uint64_t *number, uint64_t *stamp)
{
    const char *found = memmem(text, size, name, strlen(name));
    char *end;
    if (!found)
        return 0;
    *thread = strtoull(found + strlen(name), &end, 10);
    *number = *end == '-' ? strtoull(end + 1, &end, 10) : 0;
    *stamp = *end == '-' ? strtoull(end + 1, &end, 10) : 0;
    return *end == '"' && *stamp;
}

static void take_time(struct histogram *h, struct histogram *sampled, uint64_t stamp)
{
    uint64_t taken = now > stamp ? now - stamp : 0;
    if (stamp >= begin_at && stamp < end_at)
        record(h, taken);
    if (sample > 0)
        record(sampled, taken);
}

static void on_acknowledged(struct conn *c, const char *text, size_t size)
{
    uint64_t thread, number, stamp;
    if (c->role != ECHO && !succeeded(text, size)) {
        refused++;
        note_error("refused: %.*s", size < 300 ? (int)size : 300, text);
        c->state = BROKEN;
        opened--;
        return;
    }
    const char *name = c->role == ASK ? REQUEST_ID : CMID;
    if (!mark_of(name, text, size, &thread, &number, &stamp) || thread != c->thread || number != c->acked) {
        strange++;
        note_error("thread %u expected %llu: %.*s", c->thread, (unsigned long long)c->acked,
                 size < 300 ? (int)size : 300, text);
        return;
    }
    c->acked++;
    total_acked++;
    if (now >= begin_at && now < end_at)
        window_acked++;
    take_time(&ack_times, &sample_acks, stamp);
    if (mode == MODE_CLOSED && running)
        put_message(c, now);
}

static void on_pushed(struct conn *c, const char *text, size_t size)
{
    uint64_t thread, number, stamp;
    if (!mark_of(CMID, text, size, &thread, &number, &stamp) || thread != c->thread) {
        strange++;
        note_error("a push for thread %u: %.*s", c->thread, size < 300 ? (int)size : 300, text);
        return;
    }
    if (number < c->got) {
        duplicate++;
        note_error("thread %u got %llu again", c->thread, (unsigned long long)number);
        return;
    }
    if (number > c->got) {
        missing++;
        note_error("thread %u got %llu before %llu", c->thread, (unsigned long long)number,
                 (unsigned long long)c->got);
        missing += number - c->got - 1;
    }
    c->got = number + 1;
    total_pushed++;
    if (now >= begin_at && now < end_at)
        window_pushed++;
    take_time(&push_times, &sample_pushes, stamp);
}

static int is_message_push(long key)
{
    return key == 32399 || key == 22399 || key == 32398 || key == 22398;
}

static void on_text(struct conn *c, const char *text, size_t size)
{
    long key = key_of(text, size);
    if (c->state == LOGIN) {
        if (key != c->login_key)
            return;
        if (!succeeded(text, size)) {
            char why[300];
            snprintf(why, sizeof why, "login: %.*s", size < 250 ? (int)size : 250, text);
            const char *later = strstr(why, TOO_MANY) ? strstr(why, RETRY_AFTER) : NULL;
            if (!later) {
                lose(c, why);
                return;
            }
            told++;
            c->state = TOLD;
            c->retry_at = now + (uint64_t)(strtod(later + sizeof RETRY_AFTER - 1, NULL) * 1e6);
            return;
        }
        c->state = OPEN;
        c->back_at = now;
        starting--;
        opened++;
        record(&login_times, now - c->since);
        return;
    }
    /* Pushes have no request_id, and who asks gives every command one. */
    if (c->role == ASK ? memmem(text, size, REQUEST_ID, sizeof REQUEST_ID - 1) != NULL
                       : c->role & SEND && key == c->send_key)
        on_acknowledged(c, text, size);
    if (c->role == ECHO || (c->role == RECEIVE && is_message_push(key)))
        on_pushed(c, text, size);
}

/* One frame; returns its size, or 0 where it is not whole. */
static size_t on_frame(struct conn *c, const unsigned char *data, size_t size)
{
    size_t at = 2, length;
    if (size < 2)
        return 0;
    length = data[1] & 127;
    if (length == 126) {
        if (size < 4)
            return 0;
        length = (size_t)data[2] << 8 | data[3];
        at = 4;
    } else if (length == 127) {
        if (size < 10)
            return 0;
        length = 0;
        for (int i = 2; i < 10; i++)
            length = length << 8 | data[i];
        at = 10;
    }
    if (length > BUFFER - 16) {
        lose(c, "a frame that is too long");
        return size;
    }
    if (size < at + length)
        return 0;
    const char *payload = (const char *)data + at;
    if (data[0] == 0x81) {
        on_text(c, payload, length);
    } else if (data[0] == 0x89) {
        pings++;
        put_frame(10, payload, length);
    } else if (data[0] == 0x88) {
        char why[200];
        int code = length >= 2 ? (unsigned char)payload[0] << 8 | (unsigned char)payload[1] : 0;
        snprintf(why, sizeof why, "closed with %d %.*s", code, length > 2 ? (int)length - 2 : 0, payload + 2);
        put_frame(8, payload, length < 2 ? 0 : 2);
        write_out(c);
        lose(c, why);
    } else if (data[0] != 0x8a) {
        lose(c, "a frame of an unknown kind");
    }
    return at + length;
}

/* The answer to the handshake; returns its size, or 0 where it is not whole. */
static size_t on_handshake(struct conn *c, const char *data, size_t size)
{
    const char *end = memmem(data, size, "\r\n\r\n", 4);
    if (!end)
        return 0;
    if (size < 12 || memcmp(data, "HTTP/1.1 101", 12)) {
        char why[100];
        snprintf(why, sizeof why, "handshake: %.*s", size < 60 ? (int)size : 60, data);
        lose(c, why);
        return size;
    }
    if (c->login_size) {
        c->state = LOGIN;
        put_frame(1, c->login, c->login_size);
    } else {
        c->state = OPEN;
        starting--;
        opened++;
        record(&login_times, now - c->since);
    }
    return (size_t)(end + 4 - data);
}

static void on_readable(struct conn *c)
{
    size_t size = c->in_size, at = 0;
    memcpy(buffer, c->in, size);
    ssize_t got = read(c->fd, buffer + size, BUFFER - size);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    now = clock_now();
    if (got <= 0) {
        lose(c, got ? strerror(errno) : "connection ended without a close frame");
        return;
    }
    size += (size_t)got;
    while (at < size && c->state != CLOSED && c->state != BROKEN) {
        size_t taken = c->state == HANDSHAKE ? on_handshake(c, buffer + at, size - at)
                                             : on_frame(c, (unsigned char *)buffer + at, size - at);
        if (!taken)
            break;
        at += taken;
    }
    if (c->state == CLOSED || c->state == BROKEN) {
        outgoing_size = 0;
        return;
    }
    size -= at;
    if (size) {
        c->in = realloc(c->in, size);
        memcpy(c->in, buffer + at, size);
    } else if (c->in) {
        free(c->in);
        c->in = NULL;
    }
    c->in_size = size;
    write_out(c);
}

/* Time. */

static uint64_t tick_at;

static void look_around(void)
{
    tick_at = now + TICK;
    for (size_t i = 0; i < conns_count; i++) {
        struct conn *c = &conns[i];
        if (c->state == CONNECTING || c->state == HANDSHAKE || c->state == LOGIN) {
            if (now - c->asked > LOGIN_LIMIT)
                lose(c, "no login in time");
        } else if (c->state == TOLD && c->retry_at <= now) {
            c->asked = now;
            c->state = LOGIN;
            put_frame(1, c->login, c->login_size);
            write_out(c);
        } else if (c->state == CLOSED && c->retry_at && c->retry_at <= now) {
            start(c);
        }
    }
}

/* One round of the loop, until `until` at the latest. */
static void turn(uint64_t until)
{
    struct epoll_event events[512];
    struct itimerspec spec = {0};
    uint64_t wake = (until < tick_at ? until : tick_at) + 1, expirations;
    spec.it_value.tv_sec = (time_t)(wake / SECOND);
    spec.it_value.tv_nsec = (long)(wake % SECOND);
    timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &spec, NULL);
    int count = epoll_wait(epoll, events, 512, -1);
    now = clock_now();
    for (int i = 0; i < count; i++) {
        struct conn *c = events[i].data.ptr;
        if (!c) {
            if (read(timer_fd, &expirations, sizeof expirations) < 0 && errno != EAGAIN)
                die("timer");
            continue;
        }
        if (events[i].events & EPOLLOUT || c->state == CONNECTING)
            on_writable(c);
        if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR) && c->state >= HANDSHAKE && c->state <= OPEN)
            on_readable(c);
        else if (c->state == BROKEN && c->fd >= 0) {
            close(c->fd);
            c->fd = -1;
        }
    }
    if (now >= tick_at)
        look_around();
}

static void event(const char *name)
{
    printf("{\"event\": \"%s\"}\n", name);
    fflush(stdout);
}

/* Phases. */

static void log_in_all(void)
{
    uint64_t begun = clock_now(), give_up;
    double cpu = cpu_seconds();
    now = begun;
    give_up = begun + (uint64_t)(login_within * 1e9);
    while (opened + login_failed + closed < conns_count && now < give_up) {
        while (next_to_start < conns_count && starting < concurrency)
            start(&conns[next_to_start++]);
        turn(now + TICK);
    }
    double seconds = (double)(clock_now() - begun) / 1e9;
    printf("{\"event\": \"ready\", \"connections\": %zu, \"failed\": %llu, \"error\": \"%s\", \"seconds\": %.4f,"
           " \"cpu\": %.4f, ", opened, (unsigned long long)(conns_count - opened), first_error, seconds,
           cpu_seconds() - cpu);
    print_histogram("login", &login_times);
    printf("}\n");
    fflush(stdout);
    if (opened < conns_count)
        exit(2);
}

static void send_due(uint64_t begun, uint64_t *steps)
{
    while (running) {
        uint64_t due = begun + *steps * SECOND / rate;
        struct conn *c = senders[*steps % senders_count];
        if (due > now || due >= end_at)
            return;
        ++*steps;
        if (c->state != OPEN)
            continue;
        if (due >= begin_at)
            record(&lag_times, now - due);
        put_message(c, due);
        write_out(c);
    }
}

static void tell_sample(void)
{
    printf("{\"event\": \"sample\", \"seconds\": %.4f, \"sent\": %llu, \"cpu\": %.4f, ", (double)(now - begin_at) / 1e9,
           (unsigned long long)total_sent, cpu_seconds());
    print_histogram("ack", &sample_acks);
    printf(", ");
    print_histogram("push", &sample_pushes);
    printf("}\n");
    fflush(stdout);
    memset(&sample_acks, 0, sizeof sample_acks);
    memset(&sample_pushes, 0, sizeof sample_pushes);
}

static void exchange(void)
{
    uint64_t begun, steps = 0, give_up, drained_at = 0, samples = 1;
    double cpu = 0, cpu_used = 0;
    int stage = 0;
    now = begun = clock_now();
    begin_at = begun + (uint64_t)(warm * 1e9);
    end_at = begin_at + (uint64_t)(measure * 1e9);
    give_up = end_at + (uint64_t)(drain * 1e9);
    running = 1;
    for (size_t i = 0; i < senders_count && mode == MODE_CLOSED; i++) {
        for (uint64_t k = 0; k < window; k++)
            put_message(senders[i], now);
        write_out(senders[i]);
    }
    while (now < give_up) {
        uint64_t sample_at = begin_at + (uint64_t)((double)samples * sample * 1e9);
        uint64_t until = stage == 0 ? begin_at : stage == 1 ? end_at : give_up;
        if (stage == 1 && sample > 0 && sample_at < until)
            until = sample_at;
        if (mode == MODE_RATE && running) {
            uint64_t due;
            send_due(begun, &steps);
            due = begun + steps * SECOND / rate;
            until = due < until ? due : until;
        }
        turn(until);
        if (stage == 0 && now >= begin_at) {
            event("measuring");
            cpu = cpu_seconds();
            stage = 1;
            memset(&sample_acks, 0, sizeof sample_acks);
            memset(&sample_pushes, 0, sizeof sample_pushes);
        }
        if (stage == 1 && sample > 0 && now >= sample_at) {
            tell_sample();
            samples++;
        }
        if (stage == 1 && now >= end_at) {
            if (mode == MODE_RATE)
                send_due(begun, &steps);
            cpu_used = cpu_seconds() - cpu;
            event("measured");
            stage = 2;
            running = 0;
        }
        if (stage == 2 && total_acked == total_sent && total_pushed >= expected_pushes) {
            /* Whatever comes twice may still come. */
            drained_at = now;
            give_up = now + SETTLE < give_up ? now + SETTLE : give_up;
            stage = 3;
        }
    }
    printf("{\"event\": \"result\", \"seconds\": %.4f, \"cpu\": %.4f, \"acked\": %llu, \"pushed\": %llu,"
           " \"drained_seconds\": %.4f, ", measure, cpu_used, (unsigned long long)window_acked,
           (unsigned long long)window_pushed, (double)((drained_at ? drained_at : now) - end_at) / 1e9);
    print_histogram("ack", &ack_times);
    printf(", ");
    print_histogram("push", &push_times);
    printf(", ");
    print_histogram("lag", &lag_times);
    printf(", ");
}

static void hold(void)
{
    uint64_t until;
    double cpu = cpu_seconds();
    now = clock_now();
    until = now + (uint64_t)(measure * 1e9);
    event("measuring");
    while (now < until)
        turn(until);
    double cpu_used = cpu_seconds() - cpu;
    event("measured");
    printf("{\"event\": \"result\", \"seconds\": %.4f, \"cpu\": %.4f, \"pings\": %llu, ", measure, cpu_used,
           (unsigned long long)pings);
}

static int by_time(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void storm(void)
{
    uint64_t give_up, *times = allocate(conns_count * sizeof *times);
    size_t lost = 0, back = 0;
    double cpu = cpu_seconds();
    uint64_t begun = clock_now();
    memset(&login_times, 0, sizeof login_times);
    attempts = told = 0;
    now = clock_now();
    give_up = now + (uint64_t)(limit * 1e9);
    event("measuring");
    while (now < give_up) {
        turn(now + TICK);
        lost = back = 0;
        for (size_t i = 0; i < conns_count; i++) {
            lost += conns[i].lost != 0;
            if (conns[i].lost && conns[i].state == OPEN)
                times[back++] = conns[i].back_at;
        }
        if (back == conns_count)
            break;
    }
    double cpu_used = cpu_seconds() - cpu, seconds = (double)(clock_now() - begun) / 1e9;
    event("measured");
    qsort(times, back, sizeof *times, by_time);
    /* When so many per cent of all were back, by the clock that the caller reads, too. */
    printf("{\"event\": \"result\", \"seconds\": %.4f, \"cpu\": %.4f, \"lost\": %zu, \"back\": %zu, \"attempts\": %llu,"
           " \"told\": %llu, \"failed_connect\": %llu, \"failed_handshake\": %llu, \"failed_login\": %llu, \"back_at\": {",
           seconds, cpu_used, lost, back, (unsigned long long)attempts, (unsigned long long)told,
           (unsigned long long)failed_in[CONNECTING], (unsigned long long)failed_in[HANDSHAKE],
           (unsigned long long)failed_in[LOGIN]);
    for (int percent = 1; percent <= 100; percent++) {
        size_t place = (conns_count * (size_t)percent + 99) / 100;
        if (place <= back)
            printf("%s\"%d\": %.4f", percent > 1 ? ", " : "", percent, (double)times[place - 1] / 1e9);
    }
    printf("}, ");
    print_histogram("login", &login_times);
    printf(", ");
    free(times);
}

/* Start. */

static char *read_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "r");
    if (!file)
        die(path);
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    char *text = allocate(*size + 1);
    if (fread(text, 1, *size, file) != *size)
        die(path);
    fclose(file);
    return text;
}

/* The heads of a sender, which tabs separate; returns the size of the longest. */
static size_t read_heads(struct conn *c, char *text)
{
    size_t longest = 0, room = 1;
    for (char *p = text; *p; p++)
        room += *p == '\t';
    c->heads = allocate(room * sizeof *c->heads);
    while (text) {
        char *head = c->heads[c->heads_count++] = strsep(&text, "\t");
        longest = strlen(head) > longest ? strlen(head) : longest;
    }
    return longest;
}

static void read_plan(const char *path)
{
    size_t size, room = 1;
    char *text = read_file(path, &size), *line, *rest = text;
    for (size_t i = 0; i < size; i++)
        room += text[i] == '\n';
    conns = allocate(room * sizeof *conns);
    senders = allocate(room * sizeof *senders);
    receivers_of = allocate(room * sizeof *receivers_of);
    while ((line = strsep(&rest, "\n")) && *line) {
        struct conn *c = &conns[conns_count++];
        char *address = strsep(&line, "\t"), *role = strsep(&line, "\t"), *thread = strsep(&line, "\t");
        c->login = strsep(&line, "\t");
        if (!c->login || !line || inet_pton(AF_INET, address, &c->address) != 1) {
            fprintf(stderr, "load: line %zu of %s is no connection\n", conns_count, path);
            exit(1);
        }
        c->fd = -1;
        c->role = !strcmp(role, "send") ? SEND : !strcmp(role, "receive") ? RECEIVE : !strcmp(role, "echo") ? ECHO
                : !strcmp(role, "ask") ? ASK : IDLE;
        c->thread = (uint32_t)strtoul(thread, NULL, 10);
        c->login_size = strcmp(c->login, "-") ? strlen(c->login) : 0;
        c->login_key = key_of(c->login, c->login_size);
        size_t longest = read_heads(c, line);
        c->send_key = key_of(c->heads[0], strlen(c->heads[0]));
        if (c->thread >= room || c->login_size > 65535 || longest > 3900) {
            fprintf(stderr, "load: line %zu of %s is too large\n", conns_count, path);
            exit(1);
        }
        if (c->role & SEND)
            senders[senders_count++] = c;
        if (c->role & RECEIVE)
            receivers_of[c->thread]++;
    }
}

static void read_option(const char *text)
{
    const char *value = strchr(text, '=');
    size_t size = value ? (size_t)(value - text) : 0;
    struct { const char *name; uint64_t *whole; double *seconds; } known[] = {
        {"window", &window, NULL}, {"rate", &rate, NULL}, {"concurrency", &concurrency, NULL}, {"warm", NULL, &warm},
        {"measure", NULL, &measure}, {"sample", NULL, &sample}, {"drain", NULL, &drain}, {"limit", NULL, &limit}, {"login_within", NULL, &login_within}, {"backoff", NULL, &backoff},
        {"backoff_most", NULL, &backoff_most},
    };
    for (size_t i = 0; value && i < sizeof known / sizeof *known; i++) {
        if (strlen(known[i].name) != size || memcmp(known[i].name, text, size))
            continue;
        if (known[i].whole)
            *known[i].whole = strtoull(value + 1, NULL, 10);
        else
            *known[i].seconds = strtod(value + 1, NULL);
        return;
    }
    if (size == 6 && !memcmp(text, "counts", 6)) {
        counts_path = value + 1;
        return;
    }
    fprintf(stderr, "load: unknown option %s\n", text);
    exit(1);
}

static void write_counts(void)
{
    FILE *file = fopen(counts_path, "w");
    if (!file)
        die(counts_path);
    for (size_t i = 0; i < senders_count; i++)
        fprintf(file, "%u %llu %llu\n", senders[i]->thread, (unsigned long long)senders[i]->sent,
                (unsigned long long)senders[i]->acked);
    if (fclose(file))
        die(counts_path);
}

int main(int count, char **arguments)
{
    static const char *modes[] = {"closed", "rate", "hold", "storm"};
    struct rlimit files;
    if (count < 5) {
        fprintf(stderr, "usage: load PORT PLAN HEAD closed|rate|hold|storm [name=value ...]\n");
        return 1;
    }
    while (mode < 4 && strcmp(modes[mode], arguments[4]))
        mode++;
    for (int i = 5; i < count; i++)
        read_option(arguments[i]);
    read_plan(arguments[2]);
    request = read_file(arguments[3], &request_size);
    if (mode > MODE_STORM || (mode <= MODE_RATE && !senders_count) || !rate || !window) {
        fprintf(stderr, "load: nothing to do\n");
        return 1;
    }
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    server.sin_family = AF_INET;
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    server.sin_port = htons((uint16_t)atoi(arguments[1]));
    buffer = allocate(BUFFER + 1);
    outgoing = allocate(BUFFER);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event timer_event = {.events = EPOLLIN};
    if (epoll < 0 || timer_fd < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, timer_fd, &timer_event))
        die("epoll");
    log_in_all();
    if (mode == MODE_HOLD)
        hold();
    else if (mode == MODE_STORM)
        storm();
    else
        exchange();
    printf("\"connections\": %zu, \"sent\": %llu, \"acked_all\": %llu, \"pushed_all\": %llu, \"expected_pushes\": %llu,"
           " \"refused\": %llu, \"duplicate\": %llu, \"missing\": %llu, \"strange\": %llu, \"closed\": %llu,"
           " \"error\": \"%s\"}\n", opened, (unsigned long long)total_sent, (unsigned long long)total_acked,
           (unsigned long long)total_pushed, (unsigned long long)expected_pushes, (unsigned long long)refused,
           (unsigned long long)duplicate, (unsigned long long)missing, (unsigned long long)strange,
           (unsigned long long)closed, first_error);
    if (counts_path)
        write_counts();
    return 0;
}

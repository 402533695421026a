/* Monte-Carlo estimate of pi behind a small HTTP API. See README.md.
 *
 * One process answers HTTP, one child computes. They share `jobs`, a memory-mapped file on the volume, so a restart of
 * either goes on where it stopped: a job's whole state is its record. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CAPACITY = 4096, WAITING_MAX = 64, CHUNK = 65536, BACKLOG = 64 };

struct progress {
    uint64_t done, inside, random;
};

struct job { /* `current` names the valid one of two records, so that a kill at any instruction leaves one of them whole */
    uint64_t points, current;
    struct progress progress[2];
};

struct file {
    uint64_t count, finished; /* jobs are done in order: those before `finished` are complete */
    struct job jobs[CAPACITY];
};

static struct file *file;
static uint64_t max_points = 100000000;

static uint64_t next(uint64_t *state) { /* xorshift64*, Vigna 2016 */
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545F4914F6CDD1DULL;
}

static void compute(void) {
    for (;;) {
        if (file->finished == file->count) {
            usleep(100000);
            continue;
        }
        struct job *job = &file->jobs[file->finished % CAPACITY];
        struct progress work = job->progress[job->current];
        uint64_t todo = job->points - work.done < CHUNK ? job->points - work.done : CHUNK;
        for (uint64_t i = 0; i < todo; i++) {
            double x = (next(&work.random) >> 11) * 0x1p-53, y = (next(&work.random) >> 11) * 0x1p-53;
            work.inside += x * x + y * y < 1.0;
        }
        work.done += todo;
        job->progress[1 - job->current] = work;
        __atomic_store_n(&job->current, 1 - job->current, __ATOMIC_SEQ_CST);
        if (work.done == job->points)
            file->finished++;
    }
}

static void answer(int client, int status, const char *format, ...) {
    char body[512], head[200];
    va_list values;
    va_start(values, format);
    int length = vsnprintf(body, sizeof body, format, values);
    va_end(values);
    const char *word = status == 200 ? "OK" : status == 202 ? "Accepted" : status == 429 ? "Too Many Requests" : status == 404 ? "Not Found" : "Bad Request";
    int size = snprintf(head, sizeof head, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n", status, word, length);
    if (write(client, head, size) < 0 || write(client, body, length) < 0)
        return; /* the client left */
}

static void show(int client, int status, uint64_t id) {
    struct job *job = &file->jobs[(id - 1) % CAPACITY];
    struct progress now = job->progress[job->current];
    const char *state = now.done == job->points ? "done" : now.done ? "running" : "waiting";
    answer(client, status, "{\"id\": %" PRIu64 ", \"state\": \"%s\", \"points\": %" PRIu64 ", \"done\": %" PRIu64 ", \"pi\": %.9f}\n",
           id, state, job->points, now.done, now.done ? 4.0 * now.inside / now.done : 0.0);
}

static void submit(int client, const char *query) {
    const char *points_at = strstr(query, "points="), *seed_at = strstr(query, "seed=");
    uint64_t points = points_at ? strtoull(points_at + 7, NULL, 10) : 1000000;
    uint64_t seed = seed_at ? strtoull(seed_at + 5, NULL, 10) : 1;
    if (points < 1 || points > max_points) {
        answer(client, 400, "{\"error\": \"points must be 1 to %" PRIu64 "\"}\n", max_points);
    } else if (file->count - file->finished >= WAITING_MAX) {
        answer(client, 429, "{\"error\": \"%d jobs are waiting; try again later\"}\n", WAITING_MAX);
    } else {
        file->jobs[file->count % CAPACITY] = (struct job){.points = points, .progress = {{.random = seed * 0x9E3779B97F4A7C15ULL | 1}}};
        show(client, 202, ++file->count);
    }
}

static void serve(int client) {
    char request[2048], method[8], target[512];
    struct timeval patience = {.tv_sec = 5};
    setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    ssize_t got = read(client, request, sizeof request - 1);
    request[got > 0 ? got : 0] = 0;
    uint64_t id = 0;
    if (sscanf(request, "%7s %511s", method, target) != 2)
        answer(client, 400, "{\"error\": \"this is not HTTP\"}\n");
    else if (!strcmp(method, "POST") && !strncmp(target, "/jobs", 5))
        submit(client, target);
    else if (sscanf(target, "/jobs/%" SCNu64, &id) == 1 && id >= 1 && id <= file->count && id + CAPACITY > file->count)
        show(client, 200, id);
    else if (!strcmp(target, "/"))
        answer(client, 200, "{\"app\": \"simulation\", \"jobs\": %" PRIu64 ", \"finished\": %" PRIu64 ", \"max_points\": %" PRIu64 "}\n",
               file->count, file->finished, max_points);
    else
        answer(client, 404, "{\"error\": \"there is nothing here by that name\"}\n");
}

static void open_jobs(void) {
    char path[300];
    const char *folder = getenv("DATA_DIR");
    snprintf(path, sizeof path, "%s/jobs.bin", folder ? folder : "/data");
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    if (fd < 0 || ftruncate(fd, sizeof *file) < 0) {
        fprintf(stderr, "%s cannot be written; jobs will be lost at a restart\n", path);
        fd = -1;
    }
    file = mmap(NULL, sizeof *file, PROT_READ | PROT_WRITE, fd < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED, fd, 0);
    if (file == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
}

static void stop(int signal) { /* the child follows by its parent-death signal; without the child there is no point */
    _exit(signal == SIGCHLD);
}

int main(void) {
    const char *limit = getenv("MAX_POINTS"), *port = getenv("PORT");
    if (limit)
        max_points = strtoull(limit, NULL, 10);
    signal(SIGTERM, stop);
    signal(SIGINT, stop);
    signal(SIGCHLD, stop);
    signal(SIGPIPE, SIG_IGN);
    open_jobs();
    if (fork() == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        signal(SIGTERM, SIG_DFL);
        compute();
    }
    int server = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(port ? atoi(port) : 8080)};
    setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(server, (struct sockaddr *)&here, sizeof here) < 0 || listen(server, BACKLOG) < 0) {
        perror("listen");
        return 1;
    }
    for (;;) {
        int client = accept(server, NULL, NULL);
        if (client < 0)
            continue;
        serve(client);
        close(client);
    }
}

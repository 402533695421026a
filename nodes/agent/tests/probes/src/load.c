/* Storms that go on for a while, and the work of a neighbour that is to feel none of them. */
#include "probe.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

static double seconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void forks(void)
{
	for (int number = 0; number < 600; number++)
		if (fork() == 0) {
			usleep(200000);
			_exit(0);
		}
	while (wait(NULL) > 0)
		;
}

static void memory(void)
{
	if (fork() == 0) { /* the kernel kills this one */
		for (;;) {
			char *more = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			if (more == MAP_FAILED)
				_exit(0);
			fill(more, 1 << 20);
		}
	}
	wait(NULL);
}

static void disk(void)
{
	static char block[1 << 20];
	int file = open("/data/storm", O_CREAT | O_WRONLY | O_TRUNC, 0600);
	for (int number = 0; number < 32; number++)
		if (write(file, block, sizeof block) < 0 || fsync(file) < 0)
			break;
	close(file);
}

/* As a database does that commits one row at a time. */
static void flushes(void)
{
	static char block[4096];
	static int file = -1;
	if (file < 0)
		file = open("/data/flushes", O_CREAT | O_WRONLY, 0600);
	if (pwrite(file, block, sizeof block, 0) < 0 || fdatasync(file) < 0)
		usleep(1000);
}

/* No data at all, only the file system's own. */
static void entries(void)
{
	int file = open("/data/entry", O_CREAT | O_WRONLY, 0600);
	if (file < 0 || fsync(file) < 0)
		usleep(1000);
	close(file);
	unlink("/data/entry");
}

/* Past the app's own page cache, a size at a time, from anywhere in a file of 16 MiB. */
static void read_by(size_t size)
{
	static char *block;
	static int file = -1;
	const size_t whole = 16 << 20;
	if (file < 0) {
		if (posix_memalign((void **)&block, 4096, 1 << 20))
			_exit(1);
		file = open("/data/reads", O_CREAT | O_RDWR | O_DIRECT, 0600);
		for (size_t at = 0; at < whole; at += 1 << 20)
			if (pwrite(file, block, 1 << 20, (off_t)at) < 0)
				break;
	}
	if (pread(file, block, size, (off_t)((size_t)rand() % (whole / size) * size)) < 0)
		usleep(1000);
}

static void reads(void)
{
	read_by(1 << 20);
}

static void lookups(void)
{
	read_by(4096);
}

static void logs(void)
{
	static char block[65536];
	static int log = -1;
	if (log < 0) {
		log = open("/proc/1/fd/1", O_WRONLY);
		memset(block, 'x', sizeof block);
		for (size_t at = 79; at < sizeof block; at += 80)
			block[at] = '\n';
	}
	if (write(log, block, sizeof block) < 0)
		usleep(1000);
}

static void processor(void)
{
	for (int child = 0; child < 8; child++)
		if (fork() == 0) {
			for (double end = seconds() + 0.5; seconds() < end;)
				;
			_exit(0);
		}
	while (wait(NULL) > 0)
		;
}

/* To where the device's own rules drop them, and beyond. */
static void packets(void)
{
	static int end = -1;
	struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(9), .sin_addr = {htonl(0xcb007102)}};
	static char block[1200];
	if (end < 0)
		end = socket(AF_INET, SOCK_DGRAM, 0);
	for (int number = 0; number < 1000; number++)
		sendto(end, block, sizeof block, 0, (void *)&there, sizeof there);
}

static const struct { const char *name; void (*blow)(void); } storms[] = {
	{"forks", forks}, {"memory", memory}, {"disk", disk}, {"flushes", flushes}, {"entries", entries}, {"reads", reads},
	{"lookups", lookups}, {"logs", logs}, {"processor", processor},
	{"packets", packets}, {NULL, NULL}};

/* KIND SECONDS: begin a storm and return. */
static int storm(char **argument)
{
	for (int kind = 0; storms[kind].name; kind++)
		if (!strcmp(storms[kind].name, argument[0])) {
			pid_t child = fork();
			if (child)
				return OUTCOME(child);
			setsid();
			close(0), close(1), close(2);
			for (double end = seconds() + atof(argument[1]); seconds() < end;)
				storms[kind].blow();
			_exit(0);
		}
	return ENOENT;
}

static double compute(double end)
{
	static char memory[1 << 16];
	double rounds = 0;
	for (; seconds() < end; rounds++)
		fill(memory, sizeof memory);
	return rounds;
}

static double store(double end)
{
	static char block[65536];
	double rounds = 0;
	int file = open("/data/work", O_CREAT | O_WRONLY | O_TRUNC, 0600);
	for (; seconds() < end; rounds++)
		if (pwrite(file, block, sizeof block, 0) < 0 || fdatasync(file) < 0)
			break;
	close(file);
	return rounds;
}

/* SECONDS: half of them computing, half writing to disk; prints how much of each was done in a second. The network is the host's to measure. */
static int work(char **argument)
{
	double part = atof(argument[0]) / 2, now = seconds();
	double computed = compute(now + part);
	printf("processor %.0f\n", computed / part);
	now = seconds();
	printf("disk %.1f\n", store(now + part) / part);
	return 0;
}

const struct probe load_probes[] = {{"storm", storm}, {"work", work}, {NULL, NULL}};

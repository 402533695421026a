/* Bombs: each takes as much of one thing as it gets, up to the most it was told, prints how much, and gives it back. */
#include "probe.h"
#include <mqueue.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

/* MOST: processes that do nothing. */
static int forks(char **argument)
{
	int most = atoi(argument[0]), made = 0, refused = 0;
	pid_t children[4096];
	for (; made < most && made < 4096; made++) {
		children[made] = fork();
		if (children[made] == 0) {
			pause();
			_exit(0);
		}
		if (children[made] < 0) {
			refused = errno;
			break;
		}
	}
	printf("made %d\n", made);
	for (int child = 0; child < made; child++)
		kill(children[child], SIGKILL);
	while (wait(NULL) > 0)
		;
	return refused;
}
static int fork_bomb(char **argument) { return survived(forks, argument); }

static int allocate(char **argument)
{
	for (int done = 0; done < atoi(argument[0]); done += 8) {
		char *more = mmap(NULL, 8 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (more == MAP_FAILED)
			return errno;
		fill(more, 8 * MIB);
	}
	return 0;
}
static int memory_bomb(char **argument) { return survived(allocate, argument); }

static int allocate_shared(char **argument)
{
	int segment = shmget(IPC_PRIVATE, (size_t)atoi(argument[0]) * MIB, IPC_CREAT | 0600);
	char *memory = segment < 0 ? (void *)-1 : shmat(segment, NULL, 0);
	if (memory == (void *)-1)
		return errno;
	shmctl(segment, IPC_RMID, NULL);
	fill(memory, (size_t)atoi(argument[0]) * MIB);
	return 0;
}
static int shared_memory_bomb(char **argument) { return survived(allocate_shared, argument); }

/* In pieces, none of which is larger than a file may be. */
static int nameless(char **argument)
{
	int refused = 0;
	for (int done = 0; done < atoi(argument[0]) && !refused; done += 32)
		refused = pour(memfd_create("probe", 0), 32 * MIB);
	return refused;
}
static int nameless_bomb(char **argument) { return survived(nameless, argument); }

static int many(int (*take)(int), int most)
{
	for (int count = 0; count < most; count++)
		if (take(count) < 0) {
			int refused = errno;
			return printf("took %d\n", count), refused;
		}
	return 0;
}

static int one_descriptor(int n) { return (void)n, open("/dev/null", O_RDONLY); }

static int one_queue(int n)
{
	char name[32];
	snprintf(name, sizeof name, "/probe-%d", n);
	mqd_t queue = mq_open(name, O_CREAT | O_RDWR, 0600, NULL);
	if (queue != (mqd_t)-1)
		mq_unlink(name); /* it stays while it is open */
	return queue;
}

/* What waits in a pair of sockets is the kernel's memory. */
static int one_full_pair(int n)
{
	static char block[65536];
	int ends[2];
	(void)n;
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0)
		return -1;
	while (send(ends[0], block, sizeof block, MSG_DONTWAIT) > 0)
		;
	return 0;
}

static int descriptors(char **argument) { return many(one_descriptor, atoi(argument[0])); }
static int queues(char **argument) { return many(one_queue, atoi(argument[0])); }
static int buffers(char **argument) { return many(one_full_pair, atoi(argument[0])); }
static int descriptor_bomb(char **argument) { return survived(descriptors, argument); }
static int queue_bomb(char **argument) { return survived(queues, argument); }
static int buffer_bomb(char **argument) { return survived(buffers, argument); }

/* PROCESSES INSTANCES FILES SECONDS: each process takes so many inotify instances, and each of those watches so many files. */
static int take_watches(int instances, int files)
{
	char name[32];
	for (int instance = 0; instance < instances; instance++) {
		int end = inotify_init();
		if (end < 0)
			return errno;
		for (int file = 0; file < files; file++)
			if (snprintf(name, sizeof name, "/tmp/watched/%d", file), inotify_add_watch(end, name, IN_ALL_EVENTS) < 0)
				return errno;
	}
	return 0;
}

static int hold_watches(char **argument)
{
	int told[2], refused = 0, missing = atoi(argument[0]), one;
	char files[] = "/tmp/watched";
	mkdir(files, 0700);
	if (empty_files((char *[]){files, argument[2], NULL}) || pipe(told) < 0)
		return errno;
	for (int child = 0; child < atoi(argument[0]); child++)
		if (fork() == 0) {
			close(0), close(1), close(2);
			one = take_watches(atoi(argument[1]), atoi(argument[2]));
			if (write(told[1], &one, sizeof one) > 0)
				close(told[0]), close(told[1]), sleep((unsigned)atoi(argument[3]));
			_exit(0);
		}
	close(told[1]);
	for (; read(told[0], &one, sizeof one) > 0; missing--)
		refused = refused ?: one;
	return missing ? ENOMEM : refused; /* who did not tell was killed */
}

/* MIB: to the app's own output, which Docker keeps. */
static int log_bomb(char **argument)
{
	static char line[256];
	int log = open("/proc/1/fd/1", O_WRONLY);
	memset(line, 'x', sizeof line - 1), line[sizeof line - 1] = '\n';
	if (log < 0)
		return errno;
	for (size_t done = 0; done < (size_t)atoi(argument[0]) * MIB; done += sizeof line)
		if (write(log, line, sizeof line) < 0)
			return errno;
	return 0;
}

/* MILLISECONDS PROCESSES: nothing but running; prints how long they ran, all together. */
static int spin(char **argument)
{
	int count = atoi(argument[1]);
	for (int child = 0; child < count; child++)
		if (fork() == 0) {
			struct timespec now, end;
			clock_gettime(CLOCK_MONOTONIC, &end);
			end.tv_nsec += (long)(atoi(argument[0]) % 1000) * 1000000L;
			end.tv_sec += atoi(argument[0]) / 1000 + end.tv_nsec / 1000000000L;
			do
				clock_gettime(CLOCK_MONOTONIC, &now);
			while (now.tv_sec < end.tv_sec || (now.tv_sec == end.tv_sec && now.tv_nsec < end.tv_nsec % 1000000000L));
			_exit(0);
		}
	while (wait(NULL) > 0)
		;
	struct rusage used;
	getrusage(RUSAGE_CHILDREN, &used);
	printf("ran %ld ms\n", (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000 +
				       (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1000);
	return 0;
}

static int kill_all(char **argument) { return (void)argument, OUTCOME(kill(-1, SIGKILL)); }

const struct probe abuse_probes[] = {
	{"fork-bomb", fork_bomb}, {"memory-bomb", memory_bomb}, {"shared-memory-bomb", shared_memory_bomb},
	{"nameless-bomb", nameless_bomb}, {"descriptor-bomb", descriptor_bomb},
	{"hold-watches", hold_watches}, {"queue-bomb", queue_bomb}, {"buffer-bomb", buffer_bomb}, {"log-bomb", log_bomb},
	{"spin", spin}, {"kill-all", kill_all}, {NULL, NULL},
};

/* Ways to fill the owner's disk: openly, and where nobody looks. */
#include "probe.h"
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

int survived(int (*bomb)(char **), char **argument)
{
	int status = 0;
	fflush(stdout);
	pid_t child = fork();
	if (child == 0) {
		int refused = bomb(argument);
		fflush(stdout);
		_exit(refused);
	}
	if (child < 0 || waitpid(child, &status, 0) < 0)
		return errno;
	return WIFSIGNALED(status) ? (WTERMSIG(status) == SIGXFSZ ? EFBIG : ENOMEM) : WEXITSTATUS(status);
}

int pour(int file, size_t size)
{
	static char block[MIB];
	for (size_t done = 0; done < size; done += sizeof block) {
		fill(block, sizeof block);
		ssize_t got = write(file, block, sizeof block);
		if (got < (ssize_t)sizeof block) {
			int refused = got < 0 ? errno : ENOSPC;
			printf("wrote %zu MiB\n", done / MIB);
			return refused;
		}
	}
	return 0;
}

/* PATH MIB: one file. */
static int one_file(char **argument)
{
	signal(SIGXFSZ, SIG_IGN);
	int file = open(argument[0], O_CREAT | O_TRUNC | O_WRONLY, 0600);
	int refused = file < 0 ? errno : pour(file, (size_t)atoi(argument[1]) * MIB);
	close(file);
	return refused;
}

static int file_bomb(char **argument)
{
	int refused = survived(one_file, argument);
	if (!argument[2])
		unlink(argument[0]);
	return refused;
}

/* FOLDER COUNT: files with nothing in them. They hold no block, but each takes an entry of the file system's. */
int empty_files(char **argument)
{
	char path[4096];
	for (int number = 0; number < atoi(argument[1]); number++) {
		snprintf(path, sizeof path, "%s/%d", argument[0], number);
		int file = open(path, O_CREAT | O_WRONLY, 0600);
		if (file < 0)
			return printf("made %d\n", number), errno;
		close(file);
	}
	return 0;
}

/* FOLDER DEPTH MIB: a file below folders with the longest names there are, at the end of a path no program can name in one go. */
static int deep_file(char **argument)
{
	char name[256];
	memset(name, 'd', sizeof name - 1), name[sizeof name - 1] = 0;
	if (chdir(argument[0]) < 0)
		return errno;
	for (int level = 0; level < atoi(argument[1]); level++)
		if ((mkdir(name, 0700) < 0 && errno != EEXIST) || chdir(name) < 0)
			return printf("%d deep\n", level), errno;
	return one_file((char *[]){"file", argument[2], NULL});
}

/* FOLDER COUNT MIB: files of nothing but a hole, each of which says it is so large. */
static int sparse_files(char **argument)
{
	char path[4096];
	signal(SIGXFSZ, SIG_IGN);
	for (int number = 0; number < atoi(argument[1]); number++) {
		snprintf(path, sizeof path, "%s/%d", argument[0], number);
		int file = open(path, O_CREAT | O_WRONLY, 0600);
		if (file < 0 || ftruncate(file, (off_t)((size_t)atoi(argument[2]) * MIB)) < 0)
			return errno;
		close(file);
	}
	return 0;
}

/* FOLDER COUNT MIB: files that have their room from the first moment, without a byte being written. */
static int allocate(char **argument)
{
	char path[4096];
	signal(SIGXFSZ, SIG_IGN);
	for (int number = 0; number < atoi(argument[1]); number++) {
		snprintf(path, sizeof path, "%s/%d", argument[0], number);
		int file = open(path, O_CREAT | O_WRONLY, 0600);
		if (file < 0 || fallocate(file, 0, 0, (off_t)((size_t)atoi(argument[2]) * MIB)) < 0)
			return printf("took %d\n", number), errno;
		close(file);
	}
	return 0;
}

static void keep(unsigned seconds)
{
	fflush(stdout);
	if (fork() == 0) {
		close(0), close(1), close(2);
		sleep(seconds);
		_exit(0);
	}
}

/* FOLDER MIB SECONDS: files nobody finds by looking, because they have no name, held open. */
static int deleted_file(char **argument)
{
	int refused = 0, left = atoi(argument[1]);
	for (; left > 0 && !refused; left -= 16) {
		int file = open(argument[0], O_TMPFILE | O_WRONLY, 0600);
		refused = file < 0 ? errno : pour(file, (size_t)(left < 16 ? left : 16) * MIB);
	}
	keep((unsigned)atoi(argument[2]));
	return refused;
}

/* FOLDER MIB SECONDS: the same, not open any more, but in memory. */
static int mapped_file(char **argument)
{
	size_t size = (size_t)atoi(argument[1]) * MIB;
	int file = open(argument[0], O_TMPFILE | O_RDWR, 0600);
	int refused = file < 0 ? errno : pour(file, size);
	if (!refused && mmap(NULL, size, PROT_READ, MAP_SHARED, file, 0) == MAP_FAILED)
		refused = errno;
	close(file);
	keep((unsigned)atoi(argument[2]));
	return refused;
}

/* FOLDER MIB: as many files of a MiB as it takes, as fast as they can be written, and on until it is stopped. */
static int flood(char **argument)
{
	char path[4096];
	signal(SIGXFSZ, SIG_IGN);
	fflush(stdout);
	if (fork() == 0) {
		close(0), close(1), close(2);
		for (int number = 0; number < atoi(argument[1]); number++) {
			snprintf(path, sizeof path, "%s/%d", argument[0], number);
			int file = open(path, O_CREAT | O_WRONLY, 0600);
			if (file < 0 || pour(file, MIB))
				_exit(1);
			close(file);
		}
		_exit(0);
	}
	return 0;
}

const struct probe storage_probes[] = {
	{"file-bomb", file_bomb}, {"empty-files", empty_files}, {"deep-file", deep_file}, {"sparse-files", sparse_files},
	{"deleted-file", deleted_file}, {"mapped-file", mapped_file}, {"flood", flood}, {"allocate", allocate}, {NULL, NULL},
};

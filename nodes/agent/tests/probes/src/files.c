/* What a container can find, read, write or run of what is not its own. */
#include "probe.h"
#include <dirent.h>
#include <ftw.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

static const char *wanted;

static int read_path(char **argument)
{
	char byte;
	int file = open(argument[0], O_RDONLY | O_NONBLOCK);
	if (file < 0)
		return errno;
	ssize_t got = read(file, &byte, 1);
	return got == 0 ? ENODATA : OUTCOME(got);
}

static int write_path(char **argument)
{
	return write_text(argument[0], argument[1]);
}

static int create(char **argument)
{
	int file = open(argument[0], O_CREAT | O_WRONLY, 0600);
	return OUTCOME(file);
}

static int make_folder(char **argument)
{
	int refused = OUTCOME(mkdir(argument[0], 0700));
	if (!refused)
		rmdir(argument[0]);
	return refused;
}

static int named(const char *path, const struct stat *info, int kind, struct FTW *place)
{
	(void)info, (void)kind;
	if (!strncmp(path, "/proc", 5))
		return FTW_SKIP_SUBTREE;
	return strcmp(path + place->base, wanted) ? FTW_CONTINUE : (printf("found %s\n", path), FTW_STOP);
}

/* A file of the device, wherever it may be mounted. */
static int find_file(char **argument)
{
	wanted = argument[0];
	return nftw("/", named, 64, FTW_PHYS | FTW_ACTIONRETVAL) == FTW_STOP ? 0 : ENOENT;
}

static int contains(const char *path, const char *word)
{
	static char text[1 << 17];
	FILE *file = fopen(path, "r");
	size_t size = file ? fread(text, 1, sizeof text, file) : 0;
	if (file)
		fclose(file);
	return memmem(text, size, word, strlen(word)) != NULL;
}

/* HALF HALF: a secret in the environment of any process there is to be seen; in halves, or it would find the question. */
static int find_secret(char **argument)
{
	DIR *all = opendir("/proc");
	char path[300], secret[200];
	snprintf(secret, sizeof secret, "%s%s", argument[0], argument[1]);
	for (struct dirent *one; all && (one = readdir(all));) {
		snprintf(path, sizeof path, "/proc/%s/environ", one->d_name);
		if (atoi(one->d_name) > 0 && contains(path, secret))
			return printf("found in %s\n", path), 0;
	}
	return ENOENT;
}

static int is_strange(const char *path, const struct stat *info, int kind, struct FTW *place)
{
	static const char *const usual[] = {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "console", NULL};
	(void)kind;
	if (!S_ISBLK(info->st_mode) && !S_ISCHR(info->st_mode))
		return FTW_CONTINUE;
	for (const char *const *name = usual; *name; name++)
		if (!strcmp(path + place->base, *name))
			return FTW_CONTINUE;
	if (strstr(path, "/pts/"))
		return FTW_CONTINUE;
	printf("found %s\n", path);
	return FTW_STOP;
}

static int find_device(char **argument)
{
	(void)argument;
	return nftw("/dev", is_strange, 64, FTW_PHYS | FTW_ACTIONRETVAL) == FTW_STOP ? 0 : ENOENT;
}

/* Files and folders somebody outside had open when the container was started. */
static int find_descriptor(char **argument)
{
	const char *folders[] = {"/proc/self/fd", "/proc/1/fd", NULL};
	(void)argument;
	for (const char **folder = folders; *folder; folder++) {
		DIR *all = opendir(*folder);
		for (struct dirent *one; all && (one = readdir(all));) {
			struct stat info;
			if (one->d_name[0] == '.' || atoi(one->d_name) == dirfd(all) || fstatat(dirfd(all), one->d_name, &info, 0))
				continue;
			if (S_ISDIR(info.st_mode) || S_ISREG(info.st_mode) || S_ISBLK(info.st_mode))
				return printf("found %s/%s\n", *folder, one->d_name), 0;
		}
	}
	return ENOENT;
}

static int connect_unix(const char *name, size_t length)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int end = socket(AF_UNIX, SOCK_STREAM, 0);
	memcpy(address.sun_path, name, length);
	return OUTCOME(connect(end, (void *)&address, (socklen_t)(sizeof(sa_family_t) + length)));
}

static int engine_socket(char **argument)
{
	const char *paths[] = {"/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock",
			       "/run/podman/podman.sock", "/run/systemd/private", "/run/dbus/system_bus_socket", NULL};
	int refused = 0;
	(void)argument;
	for (const char **path = paths; *path; path++)
		if (!(refused = connect_unix(*path, strlen(*path) + 1)))
			return printf("connected to %s\n", *path), 0;
	return refused;
}

/* Sockets with names but no files belong to a network, not to a file system: containerd's once were in reach so. */
static int abstract_socket(char **argument)
{
	char name[100] = {0};
	snprintf(name + 1, sizeof name - 1, "%s", argument[0]);
	return connect_unix(name, strlen(argument[0]) + 1);
}

/* A program brought along, where only data belongs. */
static int run_from(char **argument)
{
	int from = open("/proc/self/exe", O_RDONLY), to = open(argument[0], O_CREAT | O_TRUNC | O_WRONLY, 0755), status;
	if (from < 0 || to < 0)
		return errno;
	while (sendfile(to, from, NULL, 1 << 20) > 0)
		;
	close(to);
	pid_t child = fork();
	if (child == 0) {
		unsetenv("QUERY_STRING");
		execl(argument[0], "probe", "each", NULL);
		_exit(errno);
	}
	waitpid(child, &status, 0);
	unlink(argument[0]);
	return WEXITSTATUS(status);
}

const struct probe file_probes[] = {
	{"read", read_path}, {"write", write_path}, {"create", create}, {"make-folder", make_folder},
	{"find-file", find_file}, {"find-secret", find_secret}, {"find-device", find_device},
	{"find-descriptor", find_descriptor}, {"engine-socket", engine_socket}, {"abstract-socket", abstract_socket},
	{"run-from", run_from}, {NULL, NULL},
};

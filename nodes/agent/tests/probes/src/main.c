/* probe NAME [ARGUMENT …]       try one thing, print how it ended
 * probe each NAME[,ARGUMENT]…   try several, a line for each
 * as a CGI program              the same, the words of the query separated by &
 */
#include "probe.h"
#include <sys/wait.h>

static const struct probe *const groups[] = {kernel_probes, mount_probes, file_probes,
					     network_probes, abuse_probes, storage_probes, load_probes};

static const struct probe *find(const char *name)
{
	for (size_t group = 0; group < sizeof groups / sizeof *groups; group++)
		for (const struct probe *probe = groups[group]; probe->name; probe++)
			if (!strcmp(probe->name, name))
				return probe;
	return NULL;
}

static int run(char **words)
{
	const struct probe *probe = find(words[0]);
	if (!probe) {
		printf("%s: no such probe\n", words[0]);
		return 2;
	}
	int refused = probe->try(words + 1);
	printf("%s: %s\n", words[0], refused ? strerrorname_np(refused) ?: "E?" : "done");
	fflush(stdout);
	return 0;
}

static int split(char *text, const char *separators, char **words, int most)
{
	int count = 0;
	for (char *word = strtok(text, separators); word && count < most; word = strtok(NULL, separators))
		words[count++] = word;
	words[count] = NULL;
	return count;
}

/* A child each, so that what one changes in its own process does not help or hinder the next. */
static int each(char **items)
{
	for (; *items; items++) {
		char *words[64];
		fflush(stdout);
		pid_t child = fork();
		if (child == 0) {
			if (!split(*items, ",", words, 63))
				_exit(2);
			_exit(run(words));
		}
		int status;
		if (child < 0 || waitpid(child, &status, 0) < 0)
			printf("%s: cannot be tried\n", *items);
		else if (WIFSIGNALED(status))
			printf("%s: SIGNAL%d\n", *items, WTERMSIG(status));
	}
	return 0;
}

int main(int count, char **arguments)
{
	char *query = getenv("QUERY_STRING"), *words[64];
	if (query) {
		printf("Content-Type: text/plain\r\n\r\n");
		fflush(stdout);
		return split(query, "&", words, 63) ? run(words) : 2;
	}
	if (count < 2)
		return 2;
	return strcmp(arguments[1], "each") ? run(arguments + 1) : each(arguments + 2);
}

int write_text(const char *path, const char *text)
{
	int file = open(path, O_WRONLY | O_CLOEXEC);
	if (file < 0)
		return errno;
	int refused = OUTCOME(write(file, text, strlen(text)));
	close(file);
	return refused;
}

void fill(char *memory, size_t size)
{
	static unsigned long long number = 88172645463325252ull;
	for (size_t at = 0; at + sizeof number <= size; at += sizeof number) {
		number ^= number << 13, number ^= number >> 7, number ^= number << 17;
		memcpy(memory + at, &number, sizeof number);
	}
}

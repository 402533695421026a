/* What every probe is: it tries one thing a container must not be able to do, and tells how that ended.
 *
 * It returns 0 when it succeeded, else the errno it was refused with. What it prints before is for a person to read.
 */
#ifndef PROBE_H
#define PROBE_H
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct probe {
	const char *name;
	int (*try)(char **argument); /* ends with NULL */
};

extern const struct probe kernel_probes[], mount_probes[], file_probes[], network_probes[], abuse_probes[], storage_probes[],
	load_probes[];

/* Return 0 when a call that answers -1 for failure succeeded, else its errno. */
#define OUTCOME(call) ((call) < 0 ? errno : 0)

#define MIB (1ul << 20)

int survived(int (*bomb)(char **), char **argument); /* run in a child: whoever is killed for it, this program stays to tell */
int pour(int file, size_t size); /* write so many bytes; 0, or the errno that ended it */
int empty_files(char **argument); /* FOLDER COUNT */
int write_text(const char *path, const char *text);
void fill(char *memory, size_t size); /* every page of it differs, so that nothing can be shared or compressed */

#endif

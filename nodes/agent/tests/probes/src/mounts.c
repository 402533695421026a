/* Ways to the device's own files: mounts, other roots, device nodes, file handles. */
#include "probe.h"
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#define TRY(name, call) static int name(char **argument) { (void)argument; return OUTCOME(call); }

TRY(mount_tmpfs, mount("none", "/tmp", "tmpfs", 0, NULL))
TRY(mount_proc, mount("none", "/tmp", "proc", 0, NULL))
TRY(mount_bind, mount("/", "/tmp", NULL, MS_BIND, NULL))
TRY(mount_writable, mount(NULL, "/proc/sys", NULL, MS_REMOUNT | MS_BIND, NULL))
TRY(mount_shared, mount(NULL, "/", NULL, MS_SHARED | MS_REC, NULL))
TRY(unmask, umount2("/proc/kcore", MNT_DETACH))
TRY(fs_open, syscall(SYS_fsopen, "tmpfs", 0))
TRY(open_tree_, syscall(SYS_open_tree, AT_FDCWD, "/", 1 /* clone */ | AT_RECURSIVE))
TRY(pivot, syscall(SYS_pivot_root, "/tmp", "/tmp"))
TRY(change_root, chroot("/tmp"))

/* The old way out of a container: a cgroup hierarchy of one's own, whose release_agent the kernel starts outside. */
static int release_agent(char **argument)
{
	const char *kinds[] = {"rdma", "misc", "memory", "pids", NULL};
	int refused = 0;
	(void)argument;
	for (const char **kind = kinds; *kind; kind++) {
		if (mount("cgroup", "/tmp", "cgroup", 0, *kind) == 0)
			return umount("/tmp"), 0;
		refused = errno;
	}
	return mount("cgroup", "/tmp", "cgroup2", 0, NULL) == 0 ? umount("/tmp"), 0 : refused;
}

/* The device the root file system of the owner's computer is on: files Docker mounts from there tell its number. */
static int read_disk(char **argument)
{
	struct stat outside;
	char start[2048];
	const char *node = argument[0] ? argument[0] : "/tmp/interchain-probe-disk";
	if (stat("/etc/hosts", &outside) < 0)
		return errno;
	unlink(node);
	if (mknod(node, S_IFBLK | 0600, outside.st_dev) < 0)
		return errno;
	printf("made a node for device %u:%u\n", major(outside.st_dev), minor(outside.st_dev));
	int disk = open(node, O_RDONLY);
	unlink(node);
	return disk < 0 ? errno : OUTCOME(read(disk, start, sizeof start));
}

/* The kernel's log again, by a node of its own. */
static int make_node(char **argument)
{
	int refused = OUTCOME(mknod(argument[0], S_IFCHR | 0600, makedev(1, 11)));
	unlink(argument[0]);
	return refused;
}

/* Without the right to make device nodes, one that lies in the image already. */
static int open_node(char **argument)
{
	int file = open(argument[0], O_RDONLY | O_NONBLOCK);
	return OUTCOME(file);
}

/* "Shocker": a file outside opened by its number, through a file that is mounted from there. Number 2 is ext4's root. */
static int file_handle(char **argument)
{
	struct { struct file_handle head; unsigned int inode, generation; } handle = {{8, 1}, 2, 0};
	int outside = open("/etc/hosts", O_RDONLY);
	(void)argument;
	return OUTCOME(open_by_handle_at(outside, &handle.head, O_RDONLY));
}

const struct probe mount_probes[] = {
	{"mount-tmpfs", mount_tmpfs}, {"mount-proc", mount_proc}, {"mount-bind", mount_bind},
	{"mount-writable", mount_writable}, {"mount-shared", mount_shared}, {"unmask", unmask}, {"fs-open", fs_open},
	{"open-tree", open_tree_}, {"pivot-root", pivot}, {"change-root", change_root}, {"release-agent", release_agent},
	{"read-disk", read_disk}, {"make-node", make_node}, {"open-node", open_node}, {"file-handle", file_handle}, {NULL, NULL},
};

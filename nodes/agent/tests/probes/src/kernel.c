/* System calls that would change the kernel or gain rights. Each is harmless when it succeeds: it sets what is set already, or
 * passes something that is only refused for being wrong once the caller's rights have been looked at. */
#include "probe.h"
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/perf_event.h>
#include <linux/reboot.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/ptrace.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>

#define TRY(name, call) static int name(char **argument) { (void)argument; return OUTCOME(call); }

TRY(add_key, syscall(SYS_add_key, "user", "interchain-probe", "x", 1, -4 /* the user's keyring, shared by all of that number */))
TRY(keyctl, syscall(SYS_keyctl, 0 /* get id */, -4, 1))
TRY(request_key, syscall(SYS_request_key, "user", "interchain-probe", NULL, 0))
TRY(userfaultfd, syscall(SYS_userfaultfd, O_CLOEXEC))
TRY(module, syscall(SYS_init_module, "not a module", 12, ""))
TRY(module_file, syscall(SYS_finit_module, open("/proc/self/exe", O_RDONLY), "", 0))
TRY(module_remove, syscall(SYS_delete_module, "interchain_probe", O_NONBLOCK))
TRY(kexec, syscall(SYS_kexec_load, 0, 0, NULL, 0))
TRY(kexec_file, syscall(SYS_kexec_file_load, -1, -1, 0, "", 0))
TRY(reboot_device, syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, 0x0bad0bad /* no command */, NULL))
TRY(host_name, sethostname("interchain-probe", 16))
TRY(domain_name, setdomainname("interchain-probe", 16))
TRY(swap_on, swapon("/proc/self/exe", 0))
TRY(accounting, acct("/tmp/interchain-probe"))
TRY(quota, syscall(SYS_quotactl, 0x80000100 /* Q_SYNC */, NULL, 0, NULL))
TRY(fanotify, syscall(SYS_fanotify_init, 0x0c /* class content: may hold up other programs */, O_RDONLY))
TRY(real_time, sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){.sched_priority = 1}))
TRY(priority, setpriority(PRIO_PROCESS, 0, -20))
TRY(disk_priority, syscall(SYS_ioprio_set, 1, 0, 1 << 13 /* real-time class */))
TRY(raise_files, setrlimit(RLIMIT_NOFILE, &(struct rlimit){1 << 19, 1 << 19}))
TRY(raise_file_size, setrlimit(RLIMIT_FSIZE, &(struct rlimit){RLIM_INFINITY, RLIM_INFINITY}))
TRY(raise_core, setrlimit(RLIMIT_CORE, &(struct rlimit){1 << 20, 1 << 20}))
TRY(hang_up, vhangup())
TRY(kernel_log, klogctl(3 /* read all */, (char[64]){0}, 64))
TRY(unshare_user, unshare(CLONE_NEWUSER))
TRY(unshare_mount, unshare(CLONE_NEWNS))
TRY(unshare_network, unshare(CLONE_NEWNET))
TRY(unshare_cgroup, unshare(CLONE_NEWCGROUP))
TRY(join_namespace, setns(open("/proc/self/ns/net", O_RDONLY), 0))
#ifdef SYS_iopl
TRY(ports, syscall(SYS_iopl, 3))
TRY(port, syscall(SYS_ioperm, 0x70, 1, 1))
#else /* no such call on this processor: whoever asks is refused */
TRY(ports, (errno = ENOSYS, -1))
TRY(port, (errno = ENOSYS, -1))
#endif

static int terminal_input(char **argument)
{
	int terminal = open("/dev/tty", O_RDWR);
	(void)argument;
	return terminal < 0 ? errno : OUTCOME(ioctl(terminal, TIOCSTI, "x"));
}

static int clone_user(char **argument)
{
	long child = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
	(void)argument;
	if (child == 0)
		_exit(0);
	if (child > 0)
		waitpid((pid_t)child, NULL, 0);
	return OUTCOME(child);
}

static int clone3_user(char **argument)
{
	unsigned long long how[11] = {CLONE_NEWUSER, 0, 0, 0, SIGCHLD};
	long child = syscall(SYS_clone3, how, sizeof how);
	(void)argument;
	if (child == 0)
		_exit(0);
	if (child > 0)
		waitpid((pid_t)child, NULL, 0);
	return OUTCOME(child);
}

static int bpf(char **argument)
{
	union bpf_attr map = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};
	(void)argument;
	return OUTCOME(syscall(SYS_bpf, BPF_MAP_CREATE, &map, sizeof map));
}

static int perf(char **argument)
{
	struct perf_event_attr what = {.type = PERF_TYPE_SOFTWARE, .size = sizeof what, .config = PERF_COUNT_SW_CPU_CLOCK};
	(void)argument;
	return OUTCOME(syscall(SYS_perf_event_open, &what, -1, 0, -1, 0)); /* everybody's on processor 0 */
}

static int io_uring(char **argument)
{
	unsigned char parameters[120] = {0};
	(void)argument;
	return OUTCOME(syscall(SYS_io_uring_setup, 4, parameters));
}

static int set_clock(char **argument)
{
	struct timespec now;
	(void)argument;
	clock_gettime(CLOCK_REALTIME, &now);
	return OUTCOME(clock_settime(CLOCK_REALTIME, &now));
}

static int slew_clock(char **argument)
{
	struct timex same = {.modes = 0};
	(void)argument;
	adjtimex(&same);
	same.modes = ADJ_FREQUENCY;
	return OUTCOME(adjtimex(&same));
}

/* Take a capability back that the sandbox has taken away. */
static int gain_capability(char **argument)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[2];
	(void)argument;
	if (syscall(SYS_capget, &header, data) < 0)
		return errno;
	data[0].permitted |= 1u << CAP_SYS_ADMIN, data[0].effective |= 1u << CAP_SYS_ADMIN;
	return OUTCOME(syscall(SYS_capset, &header, data));
}

static int is_root(char **argument)
{
	(void)argument;
	return geteuid() == 0 ? 0 : EPERM;
}

/* /bin/probe-setuid is this program, owned by root with the set-user-id bit; it is run as somebody else. */
static int setuid_program(char **argument)
{
	pid_t child = fork();
	int status = 0;
	(void)argument;
	if (child == 0) {
		if (geteuid() == 0 && (setresgid(65532, 65532, 65532) || setresuid(65532, 65532, 65532)))
			_exit(errno);
		unsetenv("QUERY_STRING");
		execl("/bin/probe-setuid", "probe", "exit-root", NULL);
		_exit(errno);
	}
	if (child < 0 || waitpid(child, &status, 0) < 0)
		return errno;
	return WEXITSTATUS(status);
}

static int exit_root(char **argument)
{
	_exit(is_root(argument));
}

static int file_capability(char **argument)
{
	/* revision 2, effective, CAP_SYS_ADMIN: whoever runs the file has it */
	unsigned int value[5] = {0x02000001, 1u << CAP_SYS_ADMIN, 0, 0, 0};
	const char *path = argument[0] ? argument[0] : "/tmp/interchain-probe-capability";
	close(open(path, O_CREAT | O_WRONLY, 0755));
	return OUTCOME(setxattr(path, "security.capability", value, sizeof value, 0));
}

/* Processes of the device, by their number there. */
static int signal_process(char **argument) { return OUTCOME(kill(atoi(argument[0]), 0)); }
static int trace_process(char **argument) { return OUTCOME(ptrace(PTRACE_SEIZE, atoi(argument[0]), 0, 0)); }
static int open_process(char **argument) { return OUTCOME(syscall(SYS_pidfd_open, atoi(argument[0]), 0)); }

static int read_process(char **argument)
{
	char byte;
	struct iovec here = {&byte, 1}, there = {(void *)0x400000, 1};
	ssize_t got = process_vm_readv(atoi(argument[0]), &here, 1, &there, 1, 0);
	return got < 0 && errno == EFAULT ? 0 : OUTCOME(got); /* EFAULT: allowed, only not mapped there */
}

const struct probe kernel_probes[] = {
	{"add-key", add_key}, {"keyctl", keyctl}, {"request-key", request_key}, {"userfaultfd", userfaultfd},
	{"module", module}, {"module-file", module_file}, {"module-remove", module_remove},
	{"kexec", kexec}, {"kexec-file", kexec_file}, {"reboot", reboot_device}, {"host-name", host_name},
	{"domain-name", domain_name}, {"swap-on", swap_on}, {"accounting", accounting}, {"quota", quota},
	{"fanotify", fanotify}, {"real-time", real_time}, {"priority", priority}, {"disk-priority", disk_priority},
	{"raise-files", raise_files}, {"raise-file-size", raise_file_size}, {"raise-core", raise_core},
	{"terminal-input", terminal_input}, {"hang-up", hang_up}, {"kernel-log", kernel_log},
	{"unshare-user", unshare_user}, {"unshare-mount", unshare_mount}, {"unshare-network", unshare_network},
	{"unshare-cgroup", unshare_cgroup}, {"join-namespace", join_namespace}, {"ports", ports}, {"port", port},
	{"clone-user", clone_user}, {"clone3-user", clone3_user}, {"bpf", bpf}, {"perf", perf}, {"io-uring", io_uring},
	{"set-clock", set_clock}, {"slew-clock", slew_clock}, {"gain-capability", gain_capability},
	{"setuid-program", setuid_program}, {"is-root", is_root}, {"exit-root", exit_root}, {"file-capability", file_capability},
	{"signal-process", signal_process}, {"trace-process", trace_process}, {"open-process", open_process},
	{"read-process", read_process}, {NULL, NULL},
};

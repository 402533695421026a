"""Which system calls an app may make: the same on every device, whatever version of Docker it has (ADR 0331).

The list is that of Docker 20.10's own default profile (moby, profiles/seccomp/default.json, Apache License 2.0), as Debian 12
ships it, less what Docker itself has taken away since, and less all that needs a capability no app is given:

    io_uring      a second way into the kernel that no filter of calls sees, and where many of its local exploits begin
    AF_VSOCK      sockets to the hypervisor, past every network rule, when the device is a virtual machine

Newer calls than those listed answer "no such call" (ENOSYS), so that programs fall back to the older ones.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

VSOCK = 40
NEW_NAMESPACES = 0x7E020000  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
NO_SUCH_CALL = 38
PERSONALITIES = (
    0x0,
    0x8,
    0x20000,
    0x20008,
    0xFFFFFFFF,
)  # Linux of 64 and 32 bits, the name it had before 3.0, "tell me"
ARCHITECTURES = {
    "SCMP_ARCH_X86_64": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    "SCMP_ARCH_AARCH64": ["SCMP_ARCH_ARM"],
}
ALLOWED = """
    _llseek _newselect accept accept4 access adjtimex alarm bind brk capget capset chdir chmod chown chown32
    clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep
    clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1
    epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit
    exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchown
    fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64
    fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_time64 futex_waitv futimesat get_robust_list
    get_thread_area getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups
    getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32
    getresuid getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid getuid32
    getxattr inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents
    io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl ioprio_get ioprio_set ipc kill landlock_add_rule
    landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listxattr llistxattr
    lremovexattr lseek lsetxattr lstat lstat64 madvise membarrier memfd_create memfd_secret mincore mkdir mkdirat
    mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive
    mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap msgctl msgget msgrcv msgsnd msync
    munlock munlockall munmap nanosleep newfstatat open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2
    poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pselect6_time64
    pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64
    recvmsg remap_file_pages removexattr rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction
    rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64
    rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam
    sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr
    sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64
    send sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list set_thread_area set_tid_address setfsgid
    setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid
    setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid setsockopt setuid
    setuid32 setxattr shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask sigreturn
    socketcall socketpair splice stat stat64 statfs statfs64 statx symlink symlinkat sync sync_file_range syncfs
    sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime
    timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill
    truncate truncate64 ugetrlimit umask uname unlink unlinkat utime utimensat utimensat_time64 utimes vfork
    vmsplice wait4 waitid waitpid write writev
"""
OF_THE_PROCESSOR = {
    ("amd64", "x32", "x86"): ["arch_prctl", "modify_ldt"],
    ("arm", "arm64"): ["arm_fadvise64_64", "arm_sync_file_range", "breakpoint", "cacheflush", "set_tls", "sync_file_range2"],
}  # fmt: skip


@lru_cache(maxsize=None)
def profile() -> str:
    """Return the profile as Docker takes it in `SecurityOpt`, after "seccomp="."""
    rules = [_rule("SCMP_ACT_ALLOW", ALLOWED.split())]
    # Before this version a program being traced could have its calls changed after they were filtered.
    rules.append({**_rule("SCMP_ACT_ALLOW", ["ptrace"]), "includes": {"minKernel": "4.8"}})
    rules.append(_rule("SCMP_ACT_ALLOW", ["socket"], (0, VSOCK, "SCMP_CMP_NE")))
    rules += [_rule("SCMP_ACT_ALLOW", ["personality"], (0, value, "SCMP_CMP_EQ")) for value in PERSONALITIES]
    rules.append(_rule("SCMP_ACT_ALLOW", ["clone"], (0, NEW_NAMESPACES, "SCMP_CMP_MASKED_EQ")))  # none of them
    # Its flags lie in memory, where a filter cannot look.
    rules.append({**_rule("SCMP_ACT_ERRNO", ["clone3"]), "errnoRet": NO_SUCH_CALL})
    for processors, names in OF_THE_PROCESSOR.items():
        rules.append({**_rule("SCMP_ACT_ALLOW", names), "includes": {"arches": list(processors)}})
    tree = [{"architecture": name, "subArchitectures": others} for name, others in ARCHITECTURES.items()]
    return json.dumps({"defaultAction": "SCMP_ACT_ERRNO", "archMap": tree, "syscalls": rules}, separators=(",", ":"))


def _rule(action: str, names: "list[str]", *arguments: "tuple[int, int, str]") -> "dict[str, Any]":
    found = [{"index": index, "value": value, "op": compare} for index, value, compare in arguments]
    return {"names": names, "action": action, "args": found}

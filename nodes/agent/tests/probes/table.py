"""Every escape that is tried: what, in which app, how it must be refused, and what of the device must be the same afterwards."""

from __future__ import annotations

from dataclasses import dataclass

BOTH = ("restricted", "baseline")
CLOSED, OPEN = ("baseline",), ("outbound",)
ANY = ("baseline", "outbound")  # what the network holds is a matter of the bridge, not of the profile
NO_RIGHT = "EPERM EACCES ENOSYS"
NOT_THERE = "ENOENT ENXIO ENODEV"
READ_ONLY = f"EROFS EACCES EPERM {NOT_THERE}"
NOBODY = "ESRCH EPERM"
SILENCE = "ETIMEDOUT"


@dataclass(frozen=True)
class Probe:
    """One row."""

    name: str
    kind: str
    tries: str  # a sentence without its subject
    line: str  # the probe's words (src/), names in braces replaced (scene.py)
    refused: str  # the errnos that count as a refusal
    apps: tuple[str, ...] = BOTH
    same: str = ""  # a fact of the device (facts.py) that is the same before and after


def _calls() -> list[Probe]:
    """One system call each, that fails for want of a right."""
    rows = [
        ("keyrings", "add-key", "put a key into the keyring all of its user number share", ""),
        ("keyrings", "keyctl", "look up that keyring", ""),
        ("keyrings", "request-key", "have the device's helper program fetch a key", ""),
        ("kernel code", "bpf", "load what eBPF programs use", ""),
        ("kernel code", "module", "load a kernel module from memory", "modules"),
        ("kernel code", "module-file", "load a kernel module from a file", "modules"),
        ("kernel code", "module-remove", "remove a kernel module", "modules"),
        ("kernel code", "kexec", "put another kernel in place", ""),
        ("kernel code", "kexec-file", "put another kernel in place, from a file", ""),
        ("kernel interfaces", "perf", "count what all programs of processor 0 do", ""),
        ("kernel interfaces", "userfaultfd", "hold the kernel up in page faults", ""),
        ("kernel interfaces", "io-uring", "set up a second way for system calls", ""),
        ("kernel interfaces", "fanotify", "hold up other programs' file access", ""),
        ("kernel interfaces", "kernel-log", "read the kernel's log", ""),
        ("kernel interfaces", "ports", "reach the processor's ports", ""),
        ("kernel interfaces", "port", "reach the clock chip's port", ""),
        ("device state", "reboot", "restart the device", ""),
        ("device state", "host-name", "rename the device", "host name"),
        ("device state", "domain-name", "rename the device's domain", "host name"),
        ("device state", "swap-on", "use a file as swap", "swap"),
        ("device state", "accounting", "have every program's end written to a file", ""),
        ("device state", "quota", "write out the disk quotas", ""),
        ("device state", "set-clock", "set the clock", "clock"),
        ("device state", "slew-clock", "change the clock's rate", "clock"),
        ("device state", "hang-up", "hang up the terminal", ""),
        ("limits", "real-time", "run before everybody else", ""),
        ("limits", "priority", "raise its priority", ""),
        ("limits", "disk-priority", "be first at the disk", ""),
        ("limits", "raise-files", "raise its limit of open files", ""),
        ("limits", "raise-file-size", "raise its limit of a file's size", ""),
        ("limits", "raise-core", "allow itself core dumps", ""),
        ("capabilities", "gain-capability", "take CAP_SYS_ADMIN back", ""),
        ("capabilities", "setuid-program", "become root by a set-user-id program in its image", ""),
        ("capabilities", "file-capability", "give a file of its own capabilities", ""),
        ("namespaces", "unshare-user", "make a user namespace, in which it would be root", ""),
        ("namespaces", "clone-user", "start a process in a new user namespace", ""),
        ("namespaces", "clone3-user", "the same by the newer call", ""),
        ("namespaces", "unshare-mount", "make a mount namespace", ""),
        ("namespaces", "unshare-network", "make a network namespace", ""),
        ("namespaces", "unshare-cgroup", "make a cgroup namespace", ""),
        ("namespaces", "join-namespace", "join a namespace", ""),
        ("mounts", "mount-tmpfs", "mount a file system", "mounts"),
        ("mounts", "mount-proc", "mount /proc without its masks", "mounts"),
        ("mounts", "mount-bind", "mount its root a second time", "mounts"),
        ("mounts", "mount-writable", "make /proc/sys writable", "mounts"),
        ("mounts", "mount-shared", "have its mounts appear outside", "mounts"),
        ("mounts", "unmask", "take the mask off /proc/kcore", "mounts"),
        ("mounts", "fs-open", "mount by the newer calls", "mounts"),
        ("mounts", "open-tree", "copy its mounts by the newer calls", "mounts"),
        ("mounts", "pivot-root", "change the root of its mounts", "mounts"),
        ("mounts", "change-root", "change its root and climb out", ""),
        ("cgroups", "release-agent", "mount a cgroup hierarchy, for its release_agent", "mounts"),
        ("disks", "read-disk", "make a node for the device's disk and read it", ""),
        ("disks", "file-handle", "open the device's root folder by its number", ""),
        ("raw network", "raw-socket", "send packets of its own making", ""),
        ("raw network", "raw-icmp", "send ICMP of its own making", ""),
        ("raw network", "packet-socket", "listen to the link and send frames", ""),
        ("raw network", "transparent", "speak from addresses that are not its own", ""),
        ("raw network", "mark", "mark its packets past routing rules", ""),
        ("raw network", "replace-rules", "replace iptables' rules", "network"),
        ("raw network", "netfilter", "change nftables' rules", "network"),
        ("raw network", "listen-all", "take in frames for others", "network"),
        ("raw network", "set-hardware", "take another hardware address", "network"),
        ("hypervisor", "hypervisor", "call the hypervisor past the network", ""),
    ]
    return [Probe(name, kind, tries, name, NO_RIGHT, same=same) for kind, name, tries, same in rows]


def _files() -> list[Probe]:
    readable = (
        "/proc/kcore",
        "/proc/kmsg",
        "/dev/kmsg",
        "/dev/mem",
        "/proc/keys",
        "/proc/timer_list",
        "/proc/sched_debug",
    )
    rows = [
        Probe(f"read {path}", "kernel interfaces", f"read {path}", f"read {path}", f"{NO_RIGHT} {NOT_THERE} ENODATA")
        for path in readable
    ]
    writable = {
        "/proc/sysrq-trigger": ("h", ""),
        "/proc/sys/kernel/core_pattern": ("|/probe", "core pattern"),
        "/proc/sys/kernel/modprobe": ("/probe", "module loader"),
        "/proc/sys/vm/drop_caches": ("1", ""),
        "/proc/sys/vm/panic_on_oom": ("0", "panic on oom"),
        "/proc/sys/net/ipv4/ip_forward": ("0", "forwarding"),
        "/proc/irq/default_smp_affinity": ("1", "interrupts"),
        "/sys/kernel/uevent_helper": ("/probe", ""),
        "/sys/power/state": ("mem", ""),
    }
    rows += [
        Probe(f"write {path}", "kernel interfaces", f"write to {path}", f"write {path} {value}", READ_ONLY, same=same)
        for path, (value, same) in writable.items()
    ]
    for name in ("memory", "processes", "processor"):
        line = f"write {{{name}_limit}} {{{name}_more}}"
        rows.append(Probe(f"raise {name}", "cgroups", f"raise its own {name} limit", line, READ_ONLY, same="limits"))
    return [
        *rows,
        Probe("new cgroup", "cgroups", "make a cgroup without limits", "make-folder {cgroup}/probe", READ_ONLY),
        Probe("devices allowed", "cgroups", "allow itself all devices", "write /sys/fs/cgroup/devices/devices.allow a", READ_ONLY),
        Probe("never killed", "limits", "be the last the kernel kills", "write /proc/self/oom_score_adj -1000", READ_ONLY),
Probe("make-node", "disks", "make a device node", "make-node /tmp/interchain-probe-node", NO_RIGHT),
        Probe("open-node", "disks", "read the kernel's log by a node in its image", "open-node /www/kmsg", NO_RIGHT),
        Probe("disk's node", "disks", "read the device's disk by a node in its image", "open-node /www/disk", NO_RIGHT),
        Probe("find-device", "disks", "find a device in /dev beyond the harmless ones", "find-device", "ENOENT"),
        Probe("engine-socket", "Docker socket", "connect to the sockets of Docker, containerd and systemd", "engine-socket", "ENOENT"),
        Probe("abstract-socket", "Docker socket", "connect to a socket of the device that has no file", "abstract-socket {abstract}", "ECONNREFUSED", same="arrivals"),
        Probe("find-file", "host mounts", "find a file of the device anywhere", "find-file {canary}", "ENOENT", same="canary"),
        Probe("find-secret", "host mounts", "find a secret of the agent's environment", "find-secret {secret}", "ENOENT"),
        Probe("find-descriptor", "host mounts", "find files that were left open at its start", "find-descriptor", "ENOENT"),
        Probe("overwrite init", "host mounts", "overwrite docker-init, which is a file of the device", "write {init} x", f"ETXTBSY {READ_ONLY}", same="init"),
        Probe("writable root", "read-only root", "write into its own image", "create /probe", "EROFS", apps=("restricted",)),
        Probe("writable programs", "read-only root", "add a program to its image", "create /bin/probe-2", "EROFS", apps=("restricted",)),
        Probe("run from tmp", "read-only root", "run a program from /tmp", "run-from /tmp/copy", "EACCES", apps=("restricted",)),
        Probe("terminal-input", "kernel interfaces", "type into the owner's terminal (TIOCSTI)", "terminal-input", f"{NO_RIGHT} {NOT_THERE} EIO"),
        Probe("signal", "other processes", "signal a process of the device", "signal-process {pid}", NOBODY, same="bystander"),
        Probe("trace", "other processes", "trace a process of the device", "trace-process {pid}", NOBODY, same="bystander"),
        Probe("open process", "other processes", "get hold of a process of the device", "open-process {pid}", NOBODY, same="bystander"),
        Probe("read process", "other processes", "read the memory of a process of the device", "read-process {pid}", NOBODY, same="bystander"),
    ]  # fmt: skip


def _network() -> list[Probe]:
    def row(kind: str, name: str, tries: str, line: str, apps: tuple[str, ...] = ANY, refused: str = SILENCE) -> Probe:
        return Probe(name, kind, tries, line, refused, apps, same="network" if refused == NO_RIGHT else "arrivals")

    return [
        row("device's own addresses", "device by TCP", "connect to a service of the device, at each of its addresses", "tcp {gateway} {tcp_port} {device} {tcp_port} {docker0} {tcp_port}"),
        row("device's own addresses", "device by UDP", "send to a service of the device, by broadcast and multicast too", "udp {gateway} {udp_port} {device} {udp_port} {broadcast} {udp_port} 255.255.255.255 {udp_port} 224.0.0.1 {udp_port}"),
        row("device's own addresses", "device by ping", "ping the device", "ping {gateway} {device}"),
        row("device's own addresses", "device by IPv6", "send to all machines on the link by IPv6", "all-nodes {udp6_port}", refused="EADDRNOTAVAIL ENETUNREACH EAFNOSUPPORT"),
        row("device's own addresses", "Docker's ports", "connect to Docker's API", "tcp {gateway} 2375 {device} 2375 {gateway} 2376"),
        row("portal's internal ports", "portal", "connect to the portal, its database and its cache on this device", "tcp {gateway} {portal_port} {device} {portal_port} {gateway} 5432 {device} 5432 {gateway} 6379 {device} 6379"),
        row("LAN scan", "LAN by TCP", "connect to a machine on the owner's network", "tcp {lan} 80 {lan} 587 {lan} 53"),
        row("LAN scan", "LAN by UDP", "send to a machine on the owner's network", "udp {lan} 53"),
        row("LAN scan", "LAN by ping", "ping a machine on the owner's network", "ping {lan}"),
        row("metadata address", "metadata", "ask the cloud's metadata service", "tcp {metadata} 80"),
        row("metadata address", "metadata by UDP", "send to the metadata address", "udp {metadata} 53"),
        row("link-local", "link-local", "connect to a link-local address", "tcp {link_local} 80"),
        row("link-local", "link-local by ping", "ping a link-local address", "ping {link_local} {metadata}"),
        row("neighbour container", "neighbour", "connect to another app, and to its holder's port", "tcp {neighbour} 8080 {neighbour} 1 {neighbour} 9090"),
        row("neighbour container", "neighbour's port", "connect to another app by its published port", "tcp {gateway} {neighbour_port} {device} {neighbour_port} {docker0} {neighbour_port}"),
        row("neighbour container", "neighbour by ping", "ping another app", "ping {neighbour}"),
        row("ARP, gateway", "other address", "take the neighbour's address", "set-address {neighbour}", refused=NO_RIGHT),
        row("ARP, gateway", "ARP entry", "say that the gateway's hardware address is its own", "neighbour-entry {gateway}", refused=NO_RIGHT),
        row("ARP, gateway", "route", "add a route", "add-route {gateway}", refused=NO_RIGHT),
        row("ARP, gateway", "forged sender", "send with the neighbour's address", "forged-source {neighbour} {public} 53", refused="ENETUNREACH EINVAL EPERM EADDRNOTAVAIL"),
        row("SMTP", "mail", "send mail from the owner's address", "tcp {public} 25", OPEN),
        row("outbound when closed", "internet by TCP", "connect to the internet", "tcp {public} 80 {public} 587 {public} 53", CLOSED),
        row("outbound when closed", "internet by UDP", "send to the internet", "udp {public} 53", CLOSED),
        row("outbound when closed", "internet by ping", "ping the internet", "ping {public}", CLOSED),
        row("DNS exfiltration", "name by Docker", "carry data out in a name, by Docker's resolver", "lookup 127.0.0.11 exfiltrated", CLOSED, f"{SILENCE} ENOENT ECONNREFUSED"),
        row("DNS exfiltration", "name directly", "carry data out in a name, by another resolver", "lookup {public} exfiltrated", CLOSED),
        row("DNS exfiltration", "name by the device", "carry data out in a name, by the device's resolver", "lookup {gateway} exfiltrated"),
    ]  # fmt: skip


ESCAPES: tuple[Probe, ...] = (*_calls(), *_files(), *_network())

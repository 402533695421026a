/* Ways onto the wire: forged packets, others' addresses, and whatever may listen outside. */
#include "probe.h"
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <net/route.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>

#define TRY(name, call) static int name(char **argument) { (void)argument; return OUTCOME(call); }
#define ON(level, option) setsockopt(socket(AF_INET, SOCK_DGRAM, 0), level, option, &(int){1}, sizeof(int))
#define WAIT_MS 350

TRY(raw_socket, socket(AF_INET, SOCK_RAW, IPPROTO_RAW))
TRY(raw_icmp, socket(AF_INET, SOCK_RAW, IPPROTO_ICMP))
TRY(packet_socket, socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL)))
TRY(transparent, ON(SOL_IP, 19 /* IP_TRANSPARENT: speak from any address */))
TRY(mark, ON(SOL_SOCKET, SO_MARK))
TRY(replace_rules, setsockopt(socket(AF_INET, SOCK_DGRAM, 0), SOL_IP, 64 /* iptables' replace */, (char[256]){0}, 256))

/* The hypervisor, when the device is a virtual machine. */
static int hypervisor(char **argument)
{
	struct sockaddr_vm host = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = 1};
	int end = socket(AF_VSOCK, SOCK_STREAM, 0);
	(void)argument;
	if (end < 0)
		return errno;
	connect(end, (void *)&host, sizeof host);
	return 0; /* whatever it answers: it was asked */
}

static struct sockaddr_in at(const char *host, int port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	inet_pton(AF_INET, host, &address.sin_addr);
	return address;
}

static int change(unsigned long request, const char *address)
{
	struct ifreq what = {.ifr_name = "eth0"};
	struct sockaddr_in where = at(address, 0);
	memcpy(&what.ifr_addr, &where, sizeof where);
	if (request == SIOCSIFHWADDR)
		what.ifr_hwaddr = (struct sockaddr){ARPHRD_ETHER, {2, 1, 2, 3, 4, 5}};
	if (request == SIOCSIFFLAGS)
		what.ifr_flags = IFF_UP | IFF_PROMISC;
	return OUTCOME(ioctl(socket(AF_INET, SOCK_DGRAM, 0), request, &what));
}

static int set_address(char **argument) { return change(SIOCSIFADDR, argument[0]); }
static int set_hardware(char **argument) { return change(SIOCSIFHWADDR, argument[0] ? argument[0] : "0.0.0.0"); }
static int listen_all(char **argument) { return change(SIOCSIFFLAGS, argument[0] ? argument[0] : "0.0.0.0"); }

static int neighbour_entry(char **argument)
{
	struct arpreq entry = {.arp_flags = ATF_PERM | ATF_COM, .arp_dev = "eth0",
			       .arp_ha = {ARPHRD_ETHER, {2, 1, 2, 3, 4, 5}}};
	struct sockaddr_in gateway = at(argument[0], 0);
	memcpy(&entry.arp_pa, &gateway, sizeof gateway);
	return OUTCOME(ioctl(socket(AF_INET, SOCK_DGRAM, 0), SIOCSARP, &entry));
}

static int add_route(char **argument)
{
	struct rtentry route = {.rt_flags = RTF_UP | RTF_GATEWAY};
	struct sockaddr_in to = at("192.0.2.0", 0), by = at(argument[0], 0), mask = at("255.255.255.0", 0);
	memcpy(&route.rt_dst, &to, sizeof to), memcpy(&route.rt_gateway, &by, sizeof by);
	memcpy(&route.rt_genmask, &mask, sizeof mask);
	return OUTCOME(ioctl(socket(AF_INET, SOCK_DGRAM, 0), SIOCADDRT, &route));
}

/* nftables over netlink: the rules of its own network, among them the one that leads its published port in. */
static int netfilter(char **argument)
{
	struct { struct nlmsghdr head; unsigned char family, version; unsigned short resource; } message = {
		{sizeof message, (10 /* nftables */ << 8) | 2 /* delete table */, NLM_F_REQUEST | NLM_F_ACK, 1, 0}, 2, 0, 0};
	char answer[512];
	int end = socket(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER);
	(void)argument;
	if (end < 0 || send(end, &message, sizeof message, 0) < 0 || recv(end, answer, sizeof answer, 0) < 0)
		return errno;
	struct nlmsgerr *result = NLMSG_DATA((struct nlmsghdr *)answer);
	return result->error == -EPERM ? EPERM : 0; /* anything else was said by somebody who had let us in */
}

/* A packet that says it comes from somebody else: FROM, TO, port. */
static int forged_source(char **argument)
{
	int end = socket(AF_INET, SOCK_DGRAM, 0);
	struct sockaddr_in from = at(argument[0], 4000), to = at(argument[1], atoi(argument[2]));
	setsockopt(end, SOL_IP, 15 /* IP_FREEBIND */, &(int){1}, sizeof(int));
	if (bind(end, (void *)&from, sizeof from) < 0)
		return errno;
	return OUTCOME(sendto(end, "forged", 6, 0, (void *)&to, sizeof to));
}

/* HOST PORT [HOST PORT …]: connect to all at once. An answer of any kind, also a refusal, means it was reached. */
static int tcp(char **argument)
{
	struct pollfd ends[32];
	int count = 0, reached = 0;
	for (; argument[0] && argument[1] && count < 32; argument += 2, count++) {
		struct sockaddr_in there = at(argument[0], atoi(argument[1]));
		ends[count] = (struct pollfd){socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), POLLOUT, 0};
		if (connect(ends[count].fd, (void *)&there, sizeof there) < 0 && errno != EINPROGRESS)
			ends[count].fd = -1;
	}
	struct timespec begin, now;
	clock_gettime(CLOCK_MONOTONIC, &begin);
	for (int left = WAIT_MS; left > 0 && poll(ends, (nfds_t)count, left) > 0;) {
		for (int i = 0; i < count; i++) {
			int problem = 0;
			if (ends[i].fd < 0 || !ends[i].revents)
				continue;
			getsockopt(ends[i].fd, SOL_SOCKET, SO_ERROR, &problem, &(socklen_t){sizeof problem});
			if (problem == 0 || problem == ECONNREFUSED)
				printf("reached number %d%s\n", i + 1, problem ? ", nothing listens" : ""), reached = 1;
			ends[i].fd = -1;
		}
		clock_gettime(CLOCK_MONOTONIC, &now);
		left = WAIT_MS - (int)((now.tv_sec - begin.tv_sec) * 1000 + (now.tv_nsec - begin.tv_nsec) / 1000000);
	}
	return reached ? 0 : ETIMEDOUT;
}

/* HOST PORT [HOST PORT …]: throw something over the wall. Only those outside can say whether it arrived. */
static int udp(char **argument)
{
	int end = socket(AF_INET, SOCK_DGRAM, 0), reached = 0;
	setsockopt(end, SOL_SOCKET, SO_BROADCAST, &(int){1}, sizeof(int));
	for (; argument[0] && argument[1]; argument += 2) {
		struct sockaddr_in there = at(argument[0], atoi(argument[1]));
		sendto(end, "probe", 5, 0, (void *)&there, sizeof there);
	}
	struct pollfd answer = {end, POLLIN, 0};
	if (poll(&answer, 1, WAIT_MS) > 0)
		reached = recv(end, (char[64]){0}, 64, 0) > 0 || errno == ECONNREFUSED;
	return reached ? 0 : ETIMEDOUT;
}

/* Docker lets everybody open ICMP sockets of the harmless kind. */
static int ping(char **argument)
{
	int end = socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP);
	struct icmphdr request = {.type = ICMP_ECHO};
	if (end < 0)
		return errno;
	for (; *argument; argument++) {
		struct sockaddr_in there = at(*argument, 0);
		sendto(end, &request, sizeof request, 0, (void *)&there, sizeof there);
	}
	return poll(&(struct pollfd){end, POLLIN, 0}, 1, WAIT_MS) > 0 ? 0 : ETIMEDOUT;
}

/* To every machine that listens on the link, by IPv6: no rule of IPv4's sees it. */
static int all_nodes(char **argument)
{
	struct sockaddr_in6 all = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)atoi(argument[0])),
				   .sin6_scope_id = if_nametoindex("eth0")};
	int end = socket(AF_INET6, SOCK_DGRAM, 0);
	inet_pton(AF_INET6, "ff02::1", &all.sin6_addr);
	return end < 0 ? errno : OUTCOME(sendto(end, "probe", 5, 0, (void *)&all, sizeof all));
}

/* A name is data too: SERVER LABEL asks it for the address of LABEL.example.com. */
static int lookup(char **argument)
{
	unsigned char question[300] = {0, 1, 1, 0, 0, 1}, *to = question + 12;
	const char *parts[] = {argument[1], "example", "com", NULL};
	struct sockaddr_in server = at(argument[0], 53);
	int end = socket(AF_INET, SOCK_DGRAM, 0);
	for (const char **part = parts; *part; part++) {
		*to++ = (unsigned char)strlen(*part);
		to = (unsigned char *)stpcpy((char *)to, *part);
	}
	memcpy(to, "\0\0\1\0\1", 5);
	if (sendto(end, question, (size_t)(to + 5 - question), 0, (void *)&server, sizeof server) < 0)
		return errno;
	if (poll(&(struct pollfd){end, POLLIN, 0}, 1, WAIT_MS) <= 0)
		return ETIMEDOUT;
	unsigned char answer[512] = {0};
	ssize_t size = recv(end, answer, sizeof answer, 0);
	return size < 12 ? ECONNREFUSED : (answer[3] & 15) ? ENOENT : 0;
}

/* HOST COUNT: a connection to each of so many ports, as the device's table of connections sees it. */
static int many_connections(char **argument)
{
	int end = socket(AF_INET, SOCK_DGRAM, 0), sent = 0, count = atoi(argument[1]);
	for (int port = 1024; port < 1024 + count && port < 65536; port++) {
		struct sockaddr_in there = at(argument[0], port);
		sent += sendto(end, "probe", 5, 0, (void *)&there, sizeof there) == 5 || errno == ECONNREFUSED;
	}
	printf("sent %d\n", sent);
	return 0;
}

const struct probe network_probes[] = {
	{"raw-socket", raw_socket}, {"raw-icmp", raw_icmp}, {"packet-socket", packet_socket},
	{"transparent", transparent}, {"mark", mark}, {"replace-rules", replace_rules}, {"hypervisor", hypervisor},
	{"set-address", set_address}, {"set-hardware", set_hardware}, {"listen-all", listen_all},
	{"neighbour-entry", neighbour_entry}, {"add-route", add_route}, {"netfilter", netfilter},
	{"forged-source", forged_source}, {"tcp", tcp}, {"udp", udp}, {"ping", ping}, {"all-nodes", all_nodes},
	{"lookup", lookup}, {"many-connections", many_connections}, {NULL, NULL},
};

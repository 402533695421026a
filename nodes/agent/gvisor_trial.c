/* What a trial of gVisor runs in its container: it listens on port 8080 and tells whoever connects what it found there.

   The first line is "root N volume N", what creating a file in /open (of the image) and /data came to (0, or minus the error's number), then comes the kernel's log.
   Without a C library, so that it is one file of about a kilobyte (gvisor_program.py). */

#define AT_FDCWD (-100)
#define O_WRONLY 1
#define O_CREAT 0100
#define O_TRUNC 01000
#define AF_INET 2
#define SOCK_STREAM 1
#define SYSLOG_ACTION_READ_ALL 3
#define PORT 8080

#if defined(__x86_64__)
enum { WRITE = 1, CLOSE = 3, SOCKET = 41, ACCEPT = 43, BIND = 49, LISTEN = 50, EXIT = 60, SYSLOG = 103, OPENAT = 257, READ = 0 };
static long call(long number, long a, long b, long c, long d) {
	long result;
	register long fourth __asm__("r10") = d;
	__asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth) : "rcx", "r11", "memory");
	return result;
}
#elif defined(__aarch64__)
enum { OPENAT = 56, CLOSE = 57, READ = 63, WRITE = 64, EXIT = 93, SYSLOG = 116, SOCKET = 198, BIND = 200, LISTEN = 201, ACCEPT = 202 };
static long call(long number, long a, long b, long c, long d) {
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
	return x0;
}
#endif

static long create(const char *path) {
	long file = call(OPENAT, AT_FDCWD, (long)path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (file < 0)
		return file;
	long written = call(WRITE, file, (long)path, 1, 0);
	call(CLOSE, file, 0, 0, 0);
	return written < 0 ? written : 0;
}

static char *put(char *at, const char *text) {
	while (*text)
		*at++ = *text++;
	return at;
}

static char *put_number(char *at, long number) {
	unsigned long rest = number < 0 ? -number : number, unit = 1;
	if (number < 0)
		*at++ = '-';
	while (rest / unit >= 10)
		unit *= 10;
	for (; unit; unit /= 10)
		*at++ = '0' + rest / unit % 10;
	return at;
}

void _start(void) {
	char told[8192], request[512], *end = told;
	unsigned char address[16] = {AF_INET, 0, PORT >> 8, PORT & 255};
	end = put(end, "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nroot ");
	end = put_number(end, create("/open/written"));
	end = put(end, " volume ");
	end = put_number(end, create("/data/written"));
	end = put(end, "\n");
	long log = call(SYSLOG, SYSLOG_ACTION_READ_ALL, (long)end, told + sizeof told - end, 0);
	end = log < 0 ? put_number(put(end, "no kernel log: "), log) : end + log;
	long listener = call(SOCKET, AF_INET, SOCK_STREAM, 0, 0);
	if (call(BIND, listener, (long)address, sizeof address, 0) < 0 || call(LISTEN, listener, 8, 0, 0) < 0)
		call(EXIT, 1, 0, 0, 0);
	for (;;) {
		long client = call(ACCEPT, listener, 0, 0, 0);
		if (client < 0)
			call(EXIT, 2, 0, 0, 0);
		call(READ, client, (long)request, sizeof request, 0);
		call(WRITE, client, (long)told, end - told, 0);
		call(CLOSE, client, 0, 0, 0);
	}
}

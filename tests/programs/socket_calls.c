// A model's client and server in one program, over every system call that moves bytes on a socket.
//
//   socket_calls FAMILY tcp|unix DIRECTORY SIZE...
//
// Makes one exchange per SIZE, with a request and a response whose bodies have so many bytes, and exits with 0 if both ends
// read what the other one wrote. What the bytes are is fixed (see `fill`), so that whoever watches can tell them without
// being told. FAMILY names the calls, or what is done with the descriptor; see `families`. Prints `skip REASON` and exits
// with 77 where the kernel has no such call.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(ok) do { if (!(ok)) { fprintf(stderr, "line %d: %s: %s\n", __LINE__, #ok, strerror(errno)); exit(1); } } while (0)
#define SEGMENTS 64
#define MESSAGES 4

typedef ssize_t (*Move)(int fd, char *buffer, size_t n);

// How one end sends and receives. A body that does not lie in a buffer of a call has a way of its own.
struct Family {
	const char *name;
	Move send, receive, send_body, receive_body;
};

static void fill(char *at, size_t n) {
	for (size_t i = 0; i < n; i++) at[i] = 'a' + (i * 7 + i / 251) % 26;
}

static ssize_t by_write(int fd, char *b, size_t n) { return write(fd, b, n); }
static ssize_t by_read(int fd, char *b, size_t n) { return read(fd, b, n); }
static ssize_t by_send(int fd, char *b, size_t n) { return sendto(fd, b, n, 0, NULL, 0); }
static ssize_t by_recv(int fd, char *b, size_t n) { return recvfrom(fd, b, n, 0, NULL, NULL); }

// Cuts a buffer into segments, the first of which is empty.
static int segments(struct iovec *to, int most, char *b, size_t n) {
	size_t step = n / (most - 1) + 1, at = 0;
	int count = 1;
	to[0] = (struct iovec){b, 0};
	for (; at < n; count++, at += step) to[count] = (struct iovec){b + at, n - at < step ? n - at : step};
	return count;
}

static ssize_t by_writev(int fd, char *b, size_t n) {
	struct iovec v[SEGMENTS];
	return writev(fd, v, segments(v, SEGMENTS, b, n));
}

static ssize_t by_readv(int fd, char *b, size_t n) {
	struct iovec v[SEGMENTS];
	return readv(fd, v, segments(v, SEGMENTS, b, n));
}

static ssize_t by_pwritev2(int fd, char *b, size_t n) {
	struct iovec v[SEGMENTS];
	return pwritev2(fd, v, segments(v, SEGMENTS, b, n), -1, 0);
}

static ssize_t by_preadv2(int fd, char *b, size_t n) {
	struct iovec v[SEGMENTS];
	return preadv2(fd, v, segments(v, SEGMENTS, b, n), -1, 0);
}

static ssize_t by_sendmsg(int fd, char *b, size_t n) {
	struct iovec v[SEGMENTS];
	struct msghdr m = {.msg_iov = v, .msg_iovlen = segments(v, SEGMENTS, b, n)};
	return sendmsg(fd, &m, 0);
}

static ssize_t by_recvmsg(int fd, char *b, size_t n) {
	struct iovec v[SEGMENTS];
	struct msghdr m = {.msg_iov = v, .msg_iovlen = segments(v, SEGMENTS, b, n)};
	return recvmsg(fd, &m, 0);
}

static int messages(struct mmsghdr *to, struct iovec (*v)[8], char *b, size_t n) {
	size_t step = n / MESSAGES + 1, at = 0;
	int count = 0;
	memset(to, 0, MESSAGES * sizeof *to);
	for (; at < n; count++, at += step) {
		to[count].msg_hdr.msg_iov = v[count];
		to[count].msg_hdr.msg_iovlen = segments(v[count], 8, b + at, n - at < step ? n - at : step);
	}
	return count;
}

static ssize_t by_sendmmsg(int fd, char *b, size_t n) {
	struct iovec v[MESSAGES][8];
	struct mmsghdr m[MESSAGES];
	ssize_t sent = 0;
	int count = sendmmsg(fd, m, messages(m, v, b, n), 0);
	for (int i = 0; i < count; i++) sent += m[i].msg_len;
	return count < 0 ? -1 : sent;
}

// A receive may fill each message in part: what follows moves up, as the buffer has no holes.
static ssize_t by_recvmmsg(int fd, char *b, size_t n) {
	struct iovec v[MESSAGES][8];
	struct mmsghdr m[MESSAGES];
	size_t step = n / MESSAGES + 1, got = 0;
	int count = recvmmsg(fd, m, messages(m, v, b, n), MSG_WAITFORONE, NULL);
	for (int i = 0; i < count; i++) {
		memmove(b + got, b + i * step, m[i].msg_len);
		got += m[i].msg_len;
	}
	return count < 0 ? -1 : (ssize_t)got;
}

// Bytes that come again, bytes that are none, descriptors that are none.
static ssize_t by_odd_recv(int fd, char *b, size_t n) {
	char c;
	struct iovec v = {&c, 1};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
	CHECK(recv(fd, b, n, MSG_PEEK) >= 0 && recvmsg(fd, &m, MSG_PEEK) >= 0);
	CHECK(read(fd, b, 0) == 0 && read(-1, b, n) < 0 && recv(-7, b, n, 0) < 0 && recv(fd, b, n, MSG_OOB) < 0);
	return read(fd, b, n);
}

static ssize_t by_odd_send(int fd, char *b, size_t n) {
	CHECK(write(fd, b, 0) == 0 && write(-1, b, n) < 0 && write(fd, NULL, n) < 0);
	return write(fd, b, n);
}

static ssize_t by_discard(int fd, char *b, size_t n) {
	return recv(fd, b, n, MSG_TRUNC);
}

static ssize_t by_sendfile(int fd, char *b, size_t n) {
	int file = memfd_create("body", 0);
	off_t at = 0;
	CHECK(file >= 0 && write(file, b, n) == (ssize_t)n);
	while (at < (off_t)n) CHECK(sendfile(fd, file, &at, n - at) > 0);
	close(file);
	return n;
}

static ssize_t by_splice_out(int fd, char *b, size_t n) {
	int p[2];
	CHECK(pipe(p) == 0);
	ssize_t in = write(p[1], b, n < 65536 ? n : 65536), out = 0;
	while (out < in) {
		ssize_t moved = splice(p[0], NULL, fd, NULL, in - out, 0);
		CHECK(moved > 0);
		out += moved;
	}
	close(p[0]), close(p[1]);
	return out;
}

static ssize_t by_splice_in(int fd, char *b, size_t n) {
	int p[2];
	CHECK(pipe(p) == 0);
	ssize_t in = splice(fd, NULL, p[1], NULL, n < 65536 ? n : 65536, 0), out = 0;
	while (out < in) {
		ssize_t got = read(p[0], b + out, in - out);
		CHECK(got > 0);
		out += got;
	}
	close(p[0]), close(p[1]);
	return in;
}

// A ring of one entry, made at its first use in each process.
static int ring_fd = -1;
static uint32_t *sq_tail, *sq_array, *cq_head, *cq_tail, *sq_mask, *cq_mask;
static struct io_uring_sqe *sqes;
static struct io_uring_cqe *cqes;

static int ring(void) {
	struct io_uring_params p = {0};
	if (ring_fd >= 0) return 0;
	ring_fd = syscall(__NR_io_uring_setup, 4, &p);
	if (ring_fd < 0) return -1;
	size_t size = p.sq_off.array + p.sq_entries * 4, cq = p.cq_off.cqes + p.cq_entries * sizeof *cqes;
	char *at = mmap(NULL, size > cq ? size : cq, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring_fd, IORING_OFF_SQ_RING);
	sqes = mmap(NULL, p.sq_entries * sizeof *sqes, PROT_READ | PROT_WRITE, MAP_SHARED, ring_fd, IORING_OFF_SQES);
	CHECK((p.features & IORING_FEAT_SINGLE_MMAP) && at != MAP_FAILED && sqes != MAP_FAILED);
	sq_tail = (void *)(at + p.sq_off.tail), sq_mask = (void *)(at + p.sq_off.ring_mask), sq_array = (void *)(at + p.sq_off.array);
	cq_head = (void *)(at + p.cq_off.head), cq_tail = (void *)(at + p.cq_off.tail), cq_mask = (void *)(at + p.cq_off.ring_mask);
	cqes = (void *)(at + p.cq_off.cqes);
	return 0;
}

static ssize_t by_ring(int op, int fd, char *b, size_t n) {
	CHECK(ring() == 0);
	uint32_t tail = *sq_tail, slot = tail & *sq_mask;
	sqes[slot] = (struct io_uring_sqe){.opcode = op, .fd = fd, .addr = (uintptr_t)b, .len = n};
	sq_array[slot] = slot;
	__atomic_store_n(sq_tail, tail + 1, __ATOMIC_RELEASE);
	CHECK(syscall(__NR_io_uring_enter, ring_fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) == 1);
	CHECK(__atomic_load_n(cq_tail, __ATOMIC_ACQUIRE) != *cq_head);
	int moved = cqes[*cq_head & *cq_mask].res;
	__atomic_store_n(cq_head, *cq_head + 1, __ATOMIC_RELEASE);
	return errno = moved < 0 ? -moved : 0, moved;
}

static ssize_t by_ring_send(int fd, char *b, size_t n) { return by_ring(IORING_OP_SEND, fd, b, n); }
static ssize_t by_ring_recv(int fd, char *b, size_t n) { return by_ring(IORING_OP_RECV, fd, b, n); }

static const struct Family families[] = {
	{"read_write", by_write, by_read, by_write, by_read},
	{"recvfrom_sendto", by_send, by_recv, by_send, by_recv},
	{"readv_writev", by_writev, by_readv, by_writev, by_readv},
	{"preadv2_pwritev2", by_pwritev2, by_preadv2, by_pwritev2, by_preadv2},
	{"recvmsg_sendmsg", by_sendmsg, by_recvmsg, by_sendmsg, by_recvmsg},
	{"recvmmsg_sendmmsg", by_sendmmsg, by_recvmmsg, by_sendmmsg, by_recvmmsg},
	{"odd", by_odd_send, by_odd_recv, by_odd_send, by_odd_recv},
	// Only a head is in a buffer.
	{"sendfile", by_write, by_read, by_sendfile, by_read},
	{"splice_out", by_write, by_read, by_splice_out, by_read},
	{"splice_in", by_write, by_read, by_write, by_splice_in},
	{"discard", by_write, by_read, by_write, by_discard},
	{"io_uring", by_write, by_read, by_ring_send, by_ring_recv},
	// Nothing is.
	{"io_uring_only", by_ring_send, by_ring_recv, by_ring_send, by_ring_recv},
	// What becomes of descriptors.
	{"dup", by_write, by_read, by_write, by_read},
	{"fork", by_write, by_read, by_write, by_read},
	{"scm", by_write, by_read, by_write, by_read},
	{"threads", by_write, by_read, by_write, by_read},
	{"reuse", by_write, by_read, by_write, by_read},
	{"half", by_write, by_read, by_write, by_read},
};

static const struct Family *family;
static const char *mode;
static struct sockaddr_storage address;
static socklen_t address_len;

static void all(Move move, int fd, char *b, size_t n) {
	while (n > 0) {
		ssize_t moved = move(fd, b, n);
		CHECK(moved > 0);
		b += moved, n -= moved;
	}
}

static int head(char *to, int request, size_t n) {
	const char *first = request ? "POST /v1/chat/completions HTTP/1.1\r\nhost: model" : "HTTP/1.1 200 OK\r\nserver: model";
	return sprintf(to, "%s\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n", first, n);
}

// Head and body in one call where one call can.
static void put(int fd, int request, size_t n) {
	char *b = malloc(n + 256);
	int at = head(b, request, n);
	fill(b + at, n);
	if (family->send == family->send_body) {
		all(family->send, fd, b, at + n);
	} else {
		all(family->send, fd, b, at);
		all(family->send_body, fd, b + at, n);
	}
	free(b);
}

static void get(int fd, int request, size_t n) {
	char *b = malloc(n + 256), *expected = malloc(n + 256);
	int at = head(expected, request, n);
	fill(expected + at, n);
	all(family->receive, fd, b, at);
	all(family->receive_body, fd, b + at, n);
	if (family->receive_body == by_discard) fill(b + at, n); // On TCP nobody stored it.
	CHECK(memcmp(b, expected, at + n) == 0);
	free(b), free(expected);
}

static int is(const char *name) { return strcmp(mode, name) == 0; }

struct Part {
	int fd, request;
	size_t n;
};

static void *put_in_thread(void *part) {
	struct Part *p = part;
	put(p->fd, p->request, p->n);
	return NULL;
}

// Hands a descriptor to a process that was there before the connection was.
static void send_descriptor(int over, int fd) {
	char c = 'x', space[CMSG_SPACE(sizeof fd)] = {0};
	struct iovec v = {&c, 1};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	*h = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof fd)};
	memcpy(CMSG_DATA(h), &fd, sizeof fd);
	CHECK(sendmsg(over, &m, 0) == 1);
}

static int receive_descriptor(int over) {
	char c, space[CMSG_SPACE(sizeof(int))];
	int fd;
	struct iovec v = {&c, 1};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
	CHECK(recvmsg(over, &m, 0) == 1);
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
	return fd;
}

static void answer(int fd, size_t n) {
	if (is("dup")) {
		int other = dup(fd);
		put(other, 0, n);
		close(other);
	} else if (is("fork")) {
		int status;
		pid_t child = fork();
		if (child == 0) put(fd, 0, n), _exit(0);
		CHECK(waitpid(child, &status, 0) == child && status == 0);
	} else if (is("threads")) {
		pthread_t thread;
		struct Part part = {fd, 0, n};
		CHECK(pthread_create(&thread, NULL, put_in_thread, &part) == 0 && pthread_join(thread, NULL) == 0);
	} else {
		put(fd, 0, n);
	}
}

static void serve(int listener, char **sizes) {
	int pair[2], fd = -1, status;
	pid_t other = 0;
	if (is("scm")) {
		CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
		if ((other = fork()) == 0) {
			fd = receive_descriptor(pair[1]);
			for (; *sizes; sizes++) get(fd, 1, atol(*sizes)), put(fd, 0, atol(*sizes));
			_exit(0);
		}
	}
	for (; *sizes; sizes++) {
		if (fd < 0) CHECK((fd = accept(listener, NULL, NULL)) >= 0);
		if (other) {
			send_descriptor(pair[0], fd);
			CHECK(waitpid(other, &status, 0) == other && status == 0);
			return;
		}
		get(fd, 1, atol(*sizes));
		answer(fd, atol(*sizes));
		if (is("reuse") || is("half")) close(fd), fd = -1;
	}
	// The client leaves first, and this end finds out.
	char c;
	if (fd >= 0) CHECK(family->receive(fd, &c, 1) == 0);
}

static void ask(char **sizes) {
	int fd = -1;
	for (; *sizes; sizes++) {
		if (fd < 0) {
			CHECK((fd = socket(address.ss_family, SOCK_STREAM, 0)) >= 0);
			CHECK(connect(fd, (struct sockaddr *)&address, address_len) == 0);
		}
		put(fd, 1, atol(*sizes));
		if (is("half")) {
			// Not read before both halves are closed: by then the connection is over.
			struct pollfd p = {.fd = fd};
			CHECK(shutdown(fd, SHUT_WR) == 0 && poll(&p, 1, 30000) == 1 && (p.revents & POLLHUP));
		}
		get(fd, 0, atol(*sizes));
		if (is("reuse") || is("half")) close(fd), fd = -1;
	}
}

int main(int argc, char **argv) {
	CHECK(argc > 4);
	mode = argv[1];
	for (size_t i = 0; i < sizeof families / sizeof *families; i++)
		if (is(families[i].name)) family = &families[i];
	CHECK(family);
	if (strncmp(mode, "io_uring", 8) == 0) {
		if (ring() < 0) return printf("skip io_uring_setup: %s\n", strerror(errno)), 77;
		close(ring_fd), ring_fd = -1; // Each process makes its own.
	}
	if (strcmp(argv[2], "unix") == 0) {
		struct sockaddr_un *un = (void *)&address;
		un->sun_family = AF_UNIX;
		snprintf(un->sun_path, sizeof un->sun_path, "%s/socket", argv[3]);
		address_len = sizeof *un;
	} else {
		struct sockaddr_in *in = (void *)&address;
		in->sin_family = AF_INET;
		in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		address_len = sizeof *in;
	}
	int listener = socket(address.ss_family, SOCK_STREAM, 0), status;
	CHECK(listener >= 0 && bind(listener, (struct sockaddr *)&address, address_len) == 0 && listen(listener, 16) == 0);
	CHECK(getsockname(listener, (struct sockaddr *)&address, &address_len) == 0);
	pid_t client = fork();
	if (client == 0) {
		close(listener);
		ask(argv + 4);
		return 0;
	}
	serve(listener, argv + 4);
	CHECK(waitpid(client, &status, 0) == client && status == 0);
	return 0;
}

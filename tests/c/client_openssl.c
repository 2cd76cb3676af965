// A TLS client that is linked with OpenSSL statically and stripped, as programs that bring their own OpenSSL are.
//
// client PORT CA: for each line on standard input makes one call, a stream if the line is "stream", and prints the id of
// the answer. Each call has a connection of its own.

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void fail(const char *what) {
	perror(what);
	ERR_print_errors_fp(stderr);
	exit(1);
}

static void call(SSL_CTX *context, int port, int stream) {
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
		fail("connect");
	SSL *ssl = SSL_new(context);
	if (ssl == NULL || SSL_set_fd(ssl, fd) != 1 || SSL_connect(ssl) != 1)
		fail("TLS");
	char body[256], request[1024];
	int n = snprintf(body, sizeof body,
	                 "{\"model\":\"static-model\",\"stream\":%s,\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}",
	                 stream ? "true" : "false");
	n = snprintf(request, sizeof request,
	             "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
	             "connection: close\r\ncontent-length: %d\r\n\r\n%s",
	             n, body);
	if (SSL_write(ssl, request, n) != n)
		fail("SSL_write");
	static char answer[1 << 20];
	size_t have = 0;
	for (int got; have < sizeof answer - 1 && (got = SSL_read(ssl, answer + have, sizeof answer - 1 - have)) > 0;)
		have += got;
	answer[have] = 0;
	char *id = strstr(answer, "chatcmpl-"), *end = id == NULL ? NULL : strchr(id, '"');
	if (end == NULL)
		fail("no id in the answer");
	printf("%.*s\n", (int)(end - id), id);
	fflush(stdout);
	SSL_free(ssl);
	close(fd);
}

int main(int argc, char **argv) {
	if (argc != 3)
		fail("client PORT CA");
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());
	if (context == NULL || SSL_CTX_load_verify_locations(context, argv[2], NULL) != 1)
		fail("CA");
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
	for (char line[64]; fgets(line, sizeof line, stdin) != NULL;)
		call(context, atoi(argv[1]), strncmp(line, "stream", 6) == 0);
	return 0;
}

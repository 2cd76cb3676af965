"""Calls a server through OpenSSL 1.1.1, which a wheel ships, and prints what curl would: the body, and the status.

usage: client_openssl_1_1.py --url URL --ca FILE --body JSON [--header H]... [--extended]
A stand-in for the programs that still carry this release; the library is the real one. --extended reads and writes
through SSL_read_ex and SSL_write_ex, else SSL_read and SSL_write are called.
"""

import argparse
import ctypes
import http.client
import io
import pathlib
import socket
import sysconfig
import urllib.parse


def libraries():
    """libssl with its libcrypto, as psycopg2-binary brings them."""
    folder = pathlib.Path(sysconfig.get_path("platlib"), "psycopg2_binary.libs")
    (crypto,) = folder.glob("libcrypto-*.so.1.1")
    (ssl,) = folder.glob("libssl-*.so.1.1")
    ctypes.CDLL(crypto, ctypes.RTLD_GLOBAL)
    return ctypes.CDLL(ssl)


class Connection(io.RawIOBase):
    """A TLS connection that http.client can read from and write to."""

    def __init__(self, host, port, ca, extended):
        super().__init__()
        self.socket = socket.create_connection((host, port))
        self.extended = extended
        self.lib = libraries()
        for name in ("TLS_client_method", "SSL_CTX_new", "SSL_new"):
            getattr(self.lib, name).restype = ctypes.c_void_p
        context = ctypes.c_void_p(self.lib.SSL_CTX_new(ctypes.c_void_p(self.lib.TLS_client_method())))
        if self.lib.SSL_CTX_load_verify_locations(context, ca.encode(), None) != 1:
            raise OSError(f"{ca} was not taken")
        self.lib.SSL_CTX_set_verify(context, 1, None)
        self.ssl = ctypes.c_void_p(self.lib.SSL_new(context))
        self.lib.SSL_set_fd(self.ssl, self.socket.fileno())
        if self.lib.SSL_connect(self.ssl) != 1:
            raise OSError("no handshake")

    def readable(self):
        return True

    def readinto(self, buffer):
        memory = (ctypes.c_char * len(buffer)).from_buffer(buffer)
        if self.extended:
            count = ctypes.c_size_t()
            done = self.lib.SSL_read_ex(self.ssl, memory, ctypes.c_size_t(len(buffer)), ctypes.byref(count))
            return count.value if done == 1 else 0
        return max(self.lib.SSL_read(self.ssl, memory, len(buffer)), 0)

    def sendall(self, data):
        data = bytes(data)
        if self.extended:
            count = ctypes.c_size_t()
            done = self.lib.SSL_write_ex(self.ssl, data, ctypes.c_size_t(len(data)), ctypes.byref(count))
            sent = count.value if done == 1 else 0
        else:
            sent = self.lib.SSL_write(self.ssl, data, len(data))
        if sent != len(data):
            raise OSError(f"{sent} of {len(data)} bytes were taken")

    def makefile(self, *_):
        return io.BufferedReader(self)

    def close(self):
        if not self.closed:
            self.lib.SSL_shutdown(self.ssl)
            self.lib.SSL_free(self.ssl)
            self.socket.close()
        super().close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--ca", required=True)
    parser.add_argument("--body", required=True)
    parser.add_argument("--header", action="append", default=[])
    parser.add_argument("--extended", action="store_true")
    args = parser.parse_args()
    url = urllib.parse.urlsplit(args.url)
    client = http.client.HTTPConnection(url.hostname, url.port)
    client.sock = Connection(url.hostname, url.port, args.ca, args.extended)
    headers = dict(header.split(": ", 1) for header in args.header)
    client.request("POST", url.path, args.body, headers)
    answer = client.getresponse()
    for line in answer:
        print(line.decode().rstrip("\n"), flush=True)
    print(f"\ncurl-http-status {answer.status}", flush=True)


main()

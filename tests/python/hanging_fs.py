"""A file system that answers until a file of it is mapped executable, and never again: prints `ready` then, and waits
for the end of standard input. To be run in a mount namespace of its own, which takes the mount along.

    hanging_fs.py MOUNT_POINT USER_ID

Speaks the protocol of /dev/fuse (linux/fuse.h) by itself, as much of it as one file takes.
"""

import ctypes
import mmap
import os
import struct
import sys
import threading

LOOKUP, GETATTR, OPEN, READ, FLUSH, RELEASE, INIT = 1, 3, 14, 15, 25, 18, 26
ROOT, FILE = 1, 2
SIZE = 8192
ENOSYS = 38


def attributes(node):
    mode, links = (0o040755, 2) if node == ROOT else (0o100755, 1)
    # struct fuse_attr
    return struct.pack("6Q10I", node, SIZE, SIZE // 512, 0, 0, 0, 0, 0, 0, mode, links, 0, 0, 0, 4096, 0)


class FileSystem:
    def __init__(self, point, user):
        self.device = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={self.device},rootmode=40000,user_id={user},group_id=0,allow_other"
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mount(b"hanging", os.fsencode(point), b"fuse", 0, options.encode()) != 0:
            raise OSError(ctypes.get_errno(), "cannot be mounted")
        self.hangs = threading.Event()

    def serve(self):
        while True:
            request = os.read(self.device, 1 << 17)
            _, opcode, unique, node = struct.unpack_from("IIQQ", request)
            if self.hangs.is_set():
                continue
            answer = self.answer(opcode, node, request[40:])
            error = -ENOSYS if answer is None else 0
            answer = answer or b""
            if opcode != 2:  # FORGET has no answer.
                os.write(self.device, struct.pack("IiQ", 16 + len(answer), error, unique) + answer)

    def answer(self, opcode, node, body):
        if opcode == INIT:
            # struct fuse_init_out of protocol 7.31
            return struct.pack("4I2H2I2H8I", 7, 31, 65536, 0, 12, 9, 65536, 1, 0, 0, *([0] * 8))
        if opcode == LOOKUP:
            return struct.pack("4Q2I", FILE, 0, 3600, 3600, 0, 0) + attributes(FILE)
        if opcode == GETATTR:
            return struct.pack("Q2I", 3600, 0, 0) + attributes(node)
        if opcode == OPEN:
            return struct.pack("Q2I", 0, 0, 0)
        if opcode == READ:
            _, offset, size = struct.unpack_from("QQI", body)
            return bytes(max(0, min(size, SIZE - offset)))
        if opcode in (FLUSH, RELEASE):
            return b""
        return None


def main():
    point = sys.argv[1]
    file_system = FileSystem(point, sys.argv[2])
    hang, hung = os.pipe()
    # Two processes: whoever serves must not wait for its own answer, not even when it is killed. Its end ends all waiting.
    if os.fork() == 0:
        os.close(hung)
        threading.Thread(target=file_system.serve, daemon=True).start()
        os.read(hang, 1)
        file_system.hangs.set()
        print("ready", flush=True)
        sys.stdin.read()
        os._exit(0)
    os.close(file_system.device)
    file = os.open(os.path.join(point, "program"), os.O_RDONLY)
    _mapping = mmap.mmap(file, SIZE, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC)
    os.close(hung)
    os.wait()


main()

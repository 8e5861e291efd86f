"""Holds memory of a real GPU, as a CUDA program does, until it is ended. Needs only the NVIDIA driver.

    python3 holdMemory.py MB [--port PORT]

Prints `held` once it holds it. With a port it answers any GET on it from then on, as a service's health page does.
"""

import argparse
import ctypes
import http.server
import signal

DRIVER = ctypes.CDLL("libcuda.so.1")
MB = 1 << 20


def call(name: str, *arguments: object) -> None:
    code = getattr(DRIVER, name)(*arguments)
    if code != 0:
        raise SystemExit(f"{name} failed with {code}")  # 2: out of memory


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("mb", metavar="MB", type=int)
parser.add_argument("--port", type=int)
arguments = parser.parse_args()

device, context, pointer = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_uint64()
call("cuInit", 0)
call("cuDeviceGet", ctypes.byref(device), 0)
call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
call("cuCtxSetCurrent", context)
call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(arguments.mb * MB))
print("held", flush=True)
if arguments.port is None:
    signal.pause()
else:
    http.server.ThreadingHTTPServer(("127.0.0.1", arguments.port), Page).serve_forever()

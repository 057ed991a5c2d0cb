"""moto's server, of S3, Secrets Manager, SNS and SES, on a free port of 127.0.0.1. Usage: s3_server.py <file that receives the port>"""

import os
import signal
import sys
import threading

from moto.server import ThreadedMotoServer


def main() -> None:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    part = sys.argv[1] + ".part"
    with open(part, "w", encoding="ascii") as file:
        file.write(str(port))
    os.rename(part, sys.argv[1])
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    ended.wait()
    server.stop()


main()

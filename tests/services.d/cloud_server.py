"""The local cloud: MiniStack, with Step Functions by moto's interpreter and tasks that stop as Fargate's do.

    cloud_server.py <port file> <address> <directory>

One port for every service. `<address>` is one that containers reach; state and logs of functions lie in `<directory>`. What this corrects, and
what stays different from AWS, is told in cloud_states.py, cloud_tasks.py and tests/README.md.
"""

import os
import socket
import sys
import threading
import time

ACCOUNT = "123456789012"
REGION = "us-east-1"
SERVICES = "cloudformation,ec2,ecr,ecs,events,iam,kms,lambda,logs,monitoring,s3,scheduler,secretsmanager,ses,sns,sqs,states,sts"


def free_port(address):
    with socket.socket() as probe:
        probe.bind((address, 0))
        return probe.getsockname()[1]


async def nothing():
    pass


def announce(port_file, address, port):
    """Writes the port when it is listened on."""
    while True:
        with socket.socket() as probe:
            if probe.connect_ex((address, port)) == 0:
                break
        time.sleep(0.05)
    with open(port_file + ".new", "w", encoding="utf-8") as file:
        file.write(str(port))
    os.rename(port_file + ".new", port_file)


def main():
    port_file, address, directory = sys.argv[1:4]
    port = free_port(address)
    url = f"http://{address}:{port}"
    for name in ("s3", "state", "tmp"):
        os.makedirs(os.path.join(directory, name), exist_ok=True)
    os.environ.update(
        GATEWAY_PORT=str(port), BIND_HOST=address, MINISTACK_HOST=address, MINISTACK_ACCOUNT_ID=ACCOUNT, MINISTACK_REGION=REGION,
        MOTO_ACCOUNT_ID=ACCOUNT, AWS_DEFAULT_REGION=REGION, AWS_ENDPOINT_URL=url, AWS_ACCESS_KEY_ID=ACCOUNT, AWS_SECRET_ACCESS_KEY="local",
        STATE_DIR=os.path.join(directory, "state"), S3_DATA_DIR=os.path.join(directory, "s3"), TMPDIR=os.path.join(directory, "tmp"),
        LAMBDA_EXECUTOR="local", SERVICES=SERVICES,
    )
    sys.argv = [sys.argv[0]]

    import cloud_schedules
    import cloud_stacks
    import cloud_states
    import cloud_tasks
    import ministack.app

    ministack.app._start_iot_mtls = nothing  # it would listen on a fixed port of every address
    states = cloud_states.States(ACCOUNT, REGION, url)
    states.start()
    states.replace_in_ministack()
    cloud_tasks.replace_in_ministack(url, ACCOUNT, REGION)
    cloud_schedules.replace_in_ministack()
    cloud_stacks.replace_in_ministack()
    threading.Thread(target=announce, args=(port_file, address, port), daemon=True).start()
    ministack.app.main()


if __name__ == "__main__":
    main()

"""ECS of the local cloud: MiniStack's, whose tasks are real containers, with what Fargate does and MiniStack leaves out.

Added: user, read-only root, memory limit, scratch volumes, the stop timeout with SIGTERM before SIGKILL, the exit code of a stopped task,
AWS's words for why a task stopped, and the way to the local cloud in the container's environment. Containers share the network of this
machine: what listens on its loopback alone, such as a test's git server, they reach without anything new being opened.

A task definition can ask for faults, in `dockerLabels` of its first container. Each value is how many of its tasks it strikes:

    errand.test.refuse         RunTask answers that there is no capacity
    errand.test.throttle       RunTask fails with ThrottlingException
    errand.test.interrupt      the running task is taken back as Spot capacity is: SIGTERM, later SIGKILL
    errand.test.terminate      the same, because its host is retired
    errand.test.lose-code      the stopped task has no exit code
    errand.test.lose-container the stopped task has no container
"""

import collections
import json
import threading
import time

from ministack.services import ecs

struck = collections.Counter()


def replace_in_ministack(cloud_url, account, region):
    environment = {
        "AWS_ENDPOINT_URL": cloud_url,
        "AWS_ACCESS_KEY_ID": account,
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
    }
    for function in (build_run_kwargs(environment), run_task, stop_task, mark_task_stopped, remove_docker_container, cleanup_task_resources):
        setattr(ecs, f"_{function.__name__}", function)
    ecs._ACTION_MAP.update(RunTask=run_task, StopTask=stop_task)


# ---------------------------------------------------------------- starting

original_build_run_kwargs = ecs._build_run_kwargs
original_run_task = ecs._run_task


def build_run_kwargs(environment):
    def build_run_kwargs(cdef, td, env, *rest):
        kwargs = original_build_run_kwargs(cdef, td, env, *rest)
        own = {variable["name"] for variable in cdef.get("environment") or []}
        kwargs["environment"] = {**kwargs["environment"], **{name: value for name, value in environment.items() if name not in own}}
        for option in ("network", "extra_hosts", "ports"):
            kwargs.pop(option, None)
        kwargs["network_mode"] = "host"
        kwargs["labels"]["errand.cloud"] = environment["AWS_ENDPOINT_URL"]
        kwargs["labels"]["errand.stop-timeout"] = str(cdef.get("stopTimeout", 30))
        if cdef.get("user"):
            kwargs["user"] = cdef["user"]
        kwargs["read_only"] = bool(cdef.get("readonlyRootFilesystem"))
        memory = cdef.get("memory") or td.get("memory")
        if memory:
            kwargs["mem_limit"] = kwargs["memswap_limit"] = f"{memory}m"
        if not kwargs.get("volumes"):
            kwargs["volumes"] = [mount["containerPath"] for mount in cdef.get("mountPoints", [])]
        return kwargs

    return build_run_kwargs


def strike(definition, fault):
    """Whether this task is one of those that the definition gives to the fault."""
    labels = (definition.get("containerDefinitions") or [{}])[0].get("dockerLabels") or {}
    key = (definition.get("taskDefinitionArn"), fault)
    if struck[key] >= int(labels.get(f"errand.test.{fault}", 0)):
        return False
    struck[key] += 1
    return True


def definition_of(reference):
    return ecs._task_defs.get(ecs._resolve_td_key(reference)) or {}


def answer(status, body):
    return status, {"Content-Type": "application/x-amz-json-1.1"}, json.dumps(body).encode()


def run_task(data):
    definition = definition_of(data.get("taskDefinition", ""))
    if strike(definition, "throttle"):
        return answer(400, {"__type": "ThrottlingException", "message": "Rate exceeded"})
    if strike(definition, "refuse"):
        return answer(200, {"tasks": [], "failures": [{"reason": "Capacity is unavailable at this time. Please try again later."}]})
    response = original_run_task(data)
    for fault, code, reason in (
        ("interrupt", "SpotInterruption", "Your Spot Task was interrupted."),
        ("terminate", "TerminationNotice", "The host of this task is being retired."),
    ):
        if response[0] == 200 and strike(definition, fault):
            arn = json.loads(response[2])["tasks"][0]["taskArn"]
            threading.Thread(target=interrupt, args=(ecs._tasks[arn], reason, code), daemon=True).start()
    return response


def interrupt(task, reason, code):
    deadline = time.monotonic() + 60
    while task["lastStatus"] not in ("RUNNING", "STOPPED") and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    stop(task, reason, code)


# ---------------------------------------------------------------- stopping

original_mark_task_stopped = ecs._mark_task_stopped
original_stop_task = ecs._stop_task
original_remove_docker_container = ecs._remove_docker_container
original_cleanup_task_resources = ecs._cleanup_task_resources


def stop_task(data):
    task = ecs._resolve_task(data.get("task", ""), ecs._resolve_cluster_name(data.get("cluster", "default")))
    if not task or task["lastStatus"] == "STOPPED" or not task.get("_docker_ids"):
        return original_stop_task(data)
    threading.Thread(target=stop, args=(task, data.get("reason", "Task stopped by user"), "UserInitiated"), daemon=True).start()
    return answer(200, {"task": {"taskArn": task["taskArn"], "clusterArn": task["clusterArn"], "lastStatus": task["lastStatus"], "desiredStatus": "STOPPED"}})


def stop(task, reason, code):
    """SIGTERM, and SIGKILL after the stop timeout; whoever sees the container end marks the task, with this reason."""
    task["_stop"] = (reason, code)
    client = ecs._get_docker()
    for container_id in list(task.get("_docker_ids") or []):
        try:
            container = client.containers.get(container_id)
            container.stop(timeout=int(container.labels.get("errand.stop-timeout", 30)))
        except Exception:  # noqa: BLE001  it ended by itself
            pass


def mark_task_stopped(task_arn, task, reason, stop_code, exit_code=None):
    if task.get("_stop") and stop_code == "EssentialContainerExited":
        reason, stop_code = task["_stop"]
    elif stop_code == "EssentialContainerExited":
        reason = "Essential container in task exited"
        out_of_memory(task)
    definition = definition_of(task.get("taskDefinitionArn", ""))
    if stop_code == "EssentialContainerExited" and strike(definition, "lose-code"):
        exit_code = None
        for container in task["containers"]:
            container["exitCode"] = None
    if stop_code == "EssentialContainerExited" and strike(definition, "lose-container"):
        task["containers"] = []
    return original_mark_task_stopped(task_arn, task, reason, stop_code, exit_code)


def out_of_memory(task):
    client = ecs._get_docker()
    for container_id, container in zip(list(task.get("_docker_ids") or []), task["containers"]):
        try:
            if client.containers.get(container_id).attrs["State"].get("OOMKilled"):
                container["reason"] = "OutOfMemoryError: Container killed due to memory usage"
        except Exception:  # noqa: BLE001  it is gone
            pass


def remove_docker_container(docker_client, container_or_id):
    """As MiniStack's, after the stop timeout of the container instead of five seconds."""
    container = container_or_id
    if isinstance(container, str):
        try:
            container = docker_client.containers.get(container)
        except Exception:  # noqa: BLE001  it is gone
            return
    if container is not None and docker_client is None:
        docker_client = ecs._get_docker()
    try:
        container.stop(timeout=int(container.labels.get("errand.stop-timeout", 30)))
    except Exception:  # noqa: BLE001  it ended by itself
        pass
    original_remove_docker_container(docker_client, container)


def cleanup_task_resources(task, docker_client, extra_container=None):
    """As MiniStack's, which leaves a container that ended by itself; its last lines are read within two seconds."""
    if docker_client is None:
        threading.Timer(2, original_cleanup_task_resources, (task, ecs._get_docker(), extra_container)).start()
    else:
        original_cleanup_task_resources(task, docker_client, extra_container)

"""Step Functions of the local cloud: moto's interpreter, with what AWS does where a container meets a token.

MiniStack's own interpreter is replaced whole. What is corrected here in moto's:

- its calls to ECS, Lambda and Step Functions go to the local cloud;
- RunTask that answers `failures` is `AmazonECS.Unknown`; errors of the API have AWS's names;
- a missed heartbeat can be caught by its own name;
- a task that stopped otherwise than with exit codes 0 fails with its description as the cause, but a result by token that came before wins;
- a task whose state timed out or whose execution was stopped is stopped, and its token is closed: a late answer changes nothing;
- an answer to a closed token is TaskTimedOut, where moto breaks down;
- the cause of SendTaskFailure arrives, and `$.a[0].b` is a value;
- an execution that nobody named has a name of its own;
- status changes are events of EventBridge.
"""

import asyncio
import datetime
import json
import logging
import re
import sys
import threading
import urllib.error
import urllib.request
import uuid

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

log = logging.getLogger("cloud.states")

# What RunTask is documented to answer; everything else is the SDK's general exception.
MODELLED_ECS_ERRORS = {
    "AccessDeniedException", "BlockedException", "ClientException", "ClusterNotFoundException", "ConflictException",
    "InvalidParameterException", "PlatformTaskDefinitionIncompatibilityException", "PlatformUnknownException",
    "ServerException", "UnsupportedFeatureException",
}


class States:
    """The interpreter behind its own port, and the way from MiniStack to it."""

    def __init__(self, account, region, cloud_url):
        self.account, self.region, self.cloud_url = account, region, cloud_url
        self.url = None
        self.clients, self.lock = {}, threading.Lock()

    def client(self, service, region=None):
        """The one client of a service: making one reads the service's whole description."""
        with self.lock:
            if (service, region) not in self.clients:
                self.clients[service, region] = self.new_client(service, region)
            return self.clients[service, region]

    def new_client(self, service, region):
        return boto3.client(
            service,
            endpoint_url=self.url if service == "stepfunctions" else self.cloud_url,
            region_name=region or self.region,
            aws_access_key_id=self.account,
            aws_secret_access_key="local",
            config=Config(parameter_validation=False, retries={"total_max_attempts": 1}, connect_timeout=10, read_timeout=900,
                          max_pool_connections=200),
        )

    def start(self):
        """Corrects the interpreter and serves it on a free port of 127.0.0.1."""
        from moto.core import config
        from moto.server import ThreadedMotoServer
        from moto.stepfunctions import responses  # noqa: F401  the modules that are corrected

        config.default_user_config["stepfunctions"]["execute_state_machine"] = True
        correct_interpreter(self)
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
        server.start()
        self.url = "http://127.0.0.1:%d" % server.get_host_and_port()[1]

    def forward(self, headers, body):
        """One request to the Step Functions API, answered by the interpreter."""
        kept = {name: value for name, value in headers.items() if name.lower() in ("authorization", "content-type", "x-amz-target", "x-amz-date")}
        request = urllib.request.Request(self.url + "/", data=body, headers=kept, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=900) as answer:
                return answer.status, {"Content-Type": "application/x-amz-json-1.0"}, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, {"Content-Type": "application/x-amz-json-1.0"}, error.read()

    def replace_in_ministack(self):
        """Everything that reaches MiniStack's Step Functions now reaches the interpreter: the API, stacks, rules, schedules."""
        from ministack.services import stepfunctions
        from ministack.services.cloudformation import provisioners

        async def handle_request(method, path, headers, body, query_params):
            return await asyncio.to_thread(self.forward, headers, body)

        def start_execution(data):
            try:
                answer = self.client("stepfunctions").start_execution(**data)
                return 200, {}, json.dumps({"executionArn": answer["executionArn"]}).encode()
            except ClientError as error:
                log.warning("an execution was not started: %s", error)
                return 400, {}, json.dumps(error.response["Error"]).encode()

        stepfunctions.handle_request = handle_request
        stepfunctions._start_execution = start_execution
        resource = provisioners._RESOURCE_HANDLERS["AWS::StepFunctions::StateMachine"]
        create, update, delete = resource["create"], resource["update"], resource["delete"]

        def created(logical_id, props, stack_name):
            arn, attributes = create(logical_id, props, stack_name)
            self.client("stepfunctions").create_state_machine(
                name=attributes["Name"], definition=provisioners._sfn_definition(props), roleArn=props["RoleArn"],
            )
            return arn, attributes

        def updated(physical_id, old_props, new_props, stack_name, logical_id=None):
            result = update(physical_id, old_props, new_props, stack_name, logical_id)
            self.client("stepfunctions").update_state_machine(
                stateMachineArn=physical_id, definition=provisioners._sfn_definition(new_props), roleArn=new_props["RoleArn"],
            )
            return result

        def deleted(physical_id, props):
            delete(physical_id, props)
            self.client("stepfunctions").delete_state_machine(stateMachineArn=physical_id)

        resource.update(create=created, update=updated, delete=deleted)

    def emit(self, execution):
        """`Step Functions Execution Status Change`, in the words that MiniStack has for it."""
        from ministack.core.responses import set_request_account_id, set_request_region
        from ministack.services import stepfunctions

        set_request_account_id(self.account)
        set_request_region(execution.region_name)
        status = str(getattr(execution.exec_status, "value", execution.exec_status))
        stepfunctions._emit_execution_status_event({
            "executionArn": execution.exec_arn,
            "stateMachineArn": execution.state_machine.arn,
            "name": execution.name,
            "status": status,
            "startDate": execution.start_date.isoformat(),
            "stopDate": execution.stop_date and execution.stop_date.isoformat(),
            "input": json.dumps(execution.input_data),
            "output": json.dumps(execution.output) if status == "SUCCEEDED" else None,
            "error": execution.error,
            "cause": execution.cause,
        })


def correct_interpreter(states):
    import moto.stepfunctions.parser.models
    from moto.stepfunctions.parser.asl.eval.callback.callback import CallbackConsumerTimeout
    from moto.stepfunctions.parser.backend import execution

    def boto_client_for(region, service, state_credentials=None):
        return states.client(service, region)

    replace_everywhere("boto_client_for", boto_client_for)

    reflect = execution.BaseExecutionWorkerCommunication.terminated
    start = execution.Execution.start

    def terminated(self):
        reflect(self)
        states.emit(self.execution)

    def started(self):
        start(self)
        states.emit(self)

    def executions(self, status=None):
        """Without those that are only about to begin: answers to tokens look through all."""
        return [one for one in listed(self, status) if one.exec_worker and one.exec_worker.env]

    backend = moto.stepfunctions.parser.models.StepFunctionsParserBackend
    listed, backend._get_executions = backend._get_executions, executions
    start_named = backend.start_execution

    def start_execution(self, state_machine_arn, name=None, *rest, **named):
        return start_named(self, state_machine_arn, name or str(uuid.uuid4()), *rest, **named)

    def stopped(self, *arguments, **named):
        if self.exec_worker and self.exec_worker.env:
            for endpoint in list(self.exec_worker.env.callback_pool_manager._pool.values()):
                endpoint.report(CallbackConsumerTimeout())
        stop(self, *arguments, **named)

    backend.start_execution = start_execution
    stop, execution.Execution.stop = execution.Execution.stop, stopped
    execution.BaseExecutionWorkerCommunication.terminated = terminated
    execution.Execution.start = started
    correct_spelling(states)
    correct_paths()
    correct_causes()
    correct_tasks()


def replace_everywhere(name, function):
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith("moto.stepfunctions.parser") and hasattr(module, name):
            setattr(module, name, function)


def correct_paths():
    """A path with an index in its middle, such as `$.a[0].b`, selects one value and not a list of one."""
    from moto.stepfunctions.parser.asl.utils import json_path

    original = json_path.extract_json
    definite = re.compile(r"\$(\.[A-Za-z0-9_]+|\[\d+\])*")

    def extract_json(path, data):
        value = original(path, data)
        if definite.fullmatch(path) and "[" in path and not path.endswith("]") and isinstance(value, list) and len(value) == 1:
            return value[0]
        return value

    replace_everywhere("extract_json", extract_json)


def correct_causes():
    """The API drops the cause of SendTaskFailure, and has no words for a token that is closed."""
    from moto.core.exceptions import AWSError
    from moto.core.responses import EmptyResult
    from moto.stepfunctions.parser import models
    from moto.stepfunctions.responses import StepFunctionResponse

    class TaskTimedOut(AWSError):
        TYPE = "TaskTimedOut"
        STATUS = 400

        def __init__(self):
            super().__init__("Task Timed Out: 'Provided task does not exist anymore'")

    models.TaskTimedOut = models.TaskDoesNotExist = TaskTimedOut

    def send_task_failure(self):
        self.stepfunction_backend.send_task_failure(self._get_param("taskToken"), error=self._get_param("error"), cause=self._get_param("cause"))
        return EmptyResult()

    StepFunctionResponse.send_task_failure = send_task_failure


def correct_spelling(states):
    """Parameters and results are PascalCase in a state machine; the API's own members may begin with a small letter."""
    from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service import StateTaskService

    def operation(self, boto_service_name, service_action_name):
        client = states.client(self._get_boto_service_name(boto_service_name))
        method = self._get_boto_service_action(service_action_name)
        return client.meta.service_model.operation_model(client.meta.method_to_api_mapping[method])

    def normalise_parameters(self, parameters, boto_service_name=None, service_action_name=None):
        self._to_boto_request(parameters, operation(self, boto_service_name, service_action_name).input_shape)

    def normalise_response(self, response, boto_service_name=None, service_action_name=None):
        self._from_boto_response(response, operation(self, boto_service_name, service_action_name).output_shape)

    StateTaskService._normalise_parameters = normalise_parameters
    StateTaskService._normalise_response = normalise_response


def correct_tasks():
    from moto.stepfunctions.parser.asl.component.state.exec.state_task.service import state_task_service_ecs as ecs
    from moto.stepfunctions.parser.asl.component.common.error_name.failure_event import FailureEvent
    from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name import StatesErrorName
    from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name_type import StatesErrorNameType
    from moto.stepfunctions.parser.asl.eval.callback.callback import CallbackConsumerTimeout, HeartbeatTimeoutError

    service = ecs.StateTaskServiceEcs
    ecs._SUPPORTED_API_PARAM_BINDINGS["runtask"].add("CapacityProviderStrategy")
    original = {name: getattr(service, name) for name in ("_from_error", "_eval_sync")}

    def eval_service_task(self, env, resource_runtime_part, normalised_parameters, state_credentials):
        client = ecs.boto_client_for(resource_runtime_part.region, "ecs")
        response = client.run_task(**normalised_parameters)
        if response["failures"] or not response["tasks"]:
            raise failed(self, env, "AmazonECS.Unknown", json.dumps({"Failures": pascal(response["failures"]), "Tasks": []}, default=str))
        response.pop("ResponseMetadata", None)
        env.stack.append(pascal(response))

    def from_error(self, env, ex):
        if isinstance(ex, HeartbeatTimeoutError):
            event = self._get_timed_out_failure_event(env)
            return FailureEvent(
                env=env,
                error_name=StatesErrorName(typ=StatesErrorNameType.StatesHeartbeatTimeout),
                event_type=event.event_type,
                event_details=event.event_details,
            )
        if isinstance(ex, ClientError):
            code = ex.response["Error"]["Code"]
            name = f"ECS.{code}" if code in MODELLED_ECS_ERRORS else "ECS.AmazonECSException"
            cause = f"{ex.response['Error']['Message']} (Service: AmazonECS; Error Code: {code})"
            return failed(self, env, name, cause).failure_event
        return original["_from_error"](self, env=env, ex=ex)

    def build_sync_resolver(self, env, resource_runtime_part, normalised_parameters, state_credentials):
        client = ecs.boto_client_for(resource_runtime_part.region, "ecs")
        submitted = env.stack.pop()["Tasks"][0]
        self.errand_task = (client, submitted["ClusterArn"], submitted["TaskArn"])
        endpoint = env.callback_pool_manager.get(env.states.context_object.context_object_data["Task"]["Token"])

        def resolve():
            described = client.describe_tasks(cluster=submitted["ClusterArn"], tasks=[submitted["TaskArn"]])["tasks"]
            if not described or described[0]["lastStatus"] != "STOPPED":
                return None
            if endpoint.get_outcome() is not None:
                return None  # the token's result came first; the waiting thread is about to see it
            task = pascal(described[0])
            codes = [container.get("ExitCode") for container in task.get("Containers", [])]
            if task.get("StopCode") != "EssentialContainerExited" or any(code not in (0, None) for code in codes):
                raise failed(self, env, "States.TaskFailed", json.dumps(task, separators=(",", ":"), sort_keys=True, default=str))
            return task

        return resolve

    def eval_sync(self, env, **arguments):
        ended = False
        try:
            outcome = original["_eval_sync"](self, env=env, **arguments)
            ended = outcome is not None and type(outcome).__name__ not in ("HeartbeatTimedOut", "CallbackOutcomeTimedOut")
            return outcome
        finally:
            if not ended:
                stop_task(self.errand_task)
                arguments["callback_endpoint"].report(CallbackConsumerTimeout())  # what a late report is answered

    service._eval_service_task = eval_service_task
    service._from_error = from_error
    service._build_sync_resolver = build_sync_resolver
    service._eval_sync = eval_sync


def stop_task(task):
    """What Step Functions does, as well as it can, with the task of a state that timed out or of an execution that was stopped."""
    client, cluster, arn = task

    def stop():
        try:
            client.stop_task(cluster=cluster, task=arn, reason="Step Functions no longer waits for this task")
        except Exception as error:  # noqa: BLE001  as AWS: tried once
            log.warning("task %s was not stopped: %s", arn, error)

    threading.Thread(target=stop, daemon=True).start()


def failed(service, env, name, cause):
    from moto.stepfunctions.parser.api import HistoryEventType, TaskFailedEventDetails
    from moto.stepfunctions.parser.asl.component.common.error_name import custom_error_name, failure_event, states_error_name, states_error_name_type
    from moto.stepfunctions.parser.asl.eval.event.event_detail import EventDetails

    if name == "States.TaskFailed":
        error = states_error_name.StatesErrorName(typ=states_error_name_type.StatesErrorNameType.StatesTaskFailed)
    else:
        error = custom_error_name.CustomErrorName(name)
    details = TaskFailedEventDetails(error=name, cause=cause, resource=service._get_sfn_resource(), resourceType=service._get_sfn_resource_type())
    event = failure_event.FailureEvent(
        env=env, error_name=error, event_type=HistoryEventType.TaskFailed, event_details=EventDetails(taskFailedEventDetails=details),
    )
    return failure_event.FailureEventException(failure_event=event)


def pascal(value):
    """Keys and times as Step Functions shows them; null members are left out there."""
    if isinstance(value, datetime.datetime):
        return int(value.timestamp() * 1000)
    if isinstance(value, dict):
        return {name[:1].upper() + name[1:]: pascal(member) for name, member in value.items() if member is not None}
    if isinstance(value, list):
        return [pascal(member) for member in value]
    return value

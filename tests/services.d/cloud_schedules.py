"""EventBridge Scheduler of the local cloud: MiniStack's, looked at every second, with the attributes that a schedule's input may name."""

import datetime
import uuid

from ministack.services import eventbridge, scheduler

original_invoke_target = eventbridge._invoke_target


def replace_in_ministack():
    scheduler._SCHEDULE_TICK_INTERVAL = 1
    eventbridge._invoke_target = invoke_target


def invoke_target(target, event, rule, view=None):
    if "ScheduleExpression" in rule and "GroupName" in rule and target.get("Input"):
        due = datetime.datetime.fromtimestamp(event["Time"], tz=datetime.timezone.utc).replace(microsecond=0)
        if rule["ScheduleExpression"].startswith("cron("):
            due = due.replace(second=0)
        attributes = {
            "scheduled-time": due.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "schedule-arn": rule.get("Arn", ""),
            "execution-id": str(uuid.uuid4()),
            "attempt-number": "1",
        }
        text = target["Input"]
        for name, value in attributes.items():
            text = text.replace(f"<aws.scheduler.{name}>", value)
        target = {**target, "Input": text}
    return original_invoke_target(target, event, rule, view)

"""Checks of infra/ and state-machines/ that no command of the linters makes. Prints what is wrong, one line each; says nothing when all is well.

    check_stack.py policies <permissions.yaml>       every policy, through parliament
    check_stack.py run-task <run.asl.json>           the parameters of RunTask, against botocore's description of ECS
    check_stack.py machines <template> <directory>   the state machines as cfn-lint reads them: inside a template that is written to <directory>
"""

import json
import pathlib
import re
import sys

SAMPLES = {"AWS::Partition": "aws", "AWS::Region": "us-east-1", "AWS::AccountId": "123456789012", "Prefix": "errand-prod", "SecretPrefix": "errand/prod/"}

# What parliament says and why it stays: it asks for every kind of resource that an action may have.
ACCEPTED = {
    ("RESOURCE_MISMATCH", "states:DescribeExecution"): "no execution here is an express one",
    ("RESOURCE_MISMATCH", "states:ListExecutions"): "no map of these state machines is distributed",
}


def plain(node):
    """A template's value with functions replaced by samples, of the form that the service expects."""
    if isinstance(node, list):
        return [plain(item) for item in node if item != {"Ref": "AWS::NoValue"}]
    if not isinstance(node, dict):
        return node
    if "Fn::If" in node:
        return plain(node["Fn::If"][1])
    if "Fn::Sub" in node:
        return re.sub(r"\$\{([^}]+)\}", lambda match: sample(match.group(1)), node["Fn::Sub"])
    if "Ref" in node:
        return sample(node["Ref"])
    if "Fn::GetAtt" in node:
        return f"arn:aws:iam::123456789012:role/{node['Fn::GetAtt'][0]}"
    return {name: plain(value) for name, value in node.items()}


def sample(name):
    if name in SAMPLES:
        return SAMPLES[name]
    if name == "MailIdentityArn":
        return "arn:aws:ses:us-east-1:123456789012:identity/example.com"
    if name.endswith("RepositoryArn"):
        return "arn:aws:ecr:us-east-1:123456789012:repository/errand-prod"
    return "arn:aws:s3:::errand-prod-state" if name == "StateBucketArn" else "example"


def policies(template_file):
    import warnings

    from cfnlint.decode import cfn_yaml

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it uses what setuptools is about to drop; requirements.txt pins that
        from parliament import analyze_policy_string

    template = cfn_yaml.load(template_file)
    for name, resource in template["Resources"].items():
        properties = resource["Properties"]
        documents = [policy["PolicyDocument"] for policy in properties.get("Policies", [])]
        if "PolicyDocument" in properties:
            documents.append(properties["PolicyDocument"])
        for document in documents:
            analysis = analyze_policy_string(json.dumps(plain(document)))
            for finding in analysis.findings:
                action = finding.detail[0].get("action") if isinstance(finding.detail, list) else None
                if (finding.issue, action) not in ACCEPTED:
                    yield f"{name}: {finding.issue} {finding.title or ''} {finding.detail} {finding.location}"


def run_task(machine_file):
    from botocore.loaders import Loader
    from botocore.model import ServiceModel
    from botocore.validate import ParamValidator

    text = pathlib.Path(machine_file).read_text(encoding="utf-8")
    machine = json.loads(re.sub(r"\$\{(\w+)\}", "ENABLED", text))
    parameters = camel(resolved(machine["States"]["Run"]["Parameters"]))
    model = ServiceModel(Loader().load_service_model("ecs", "service-2"), "ecs")
    report = ParamValidator().validate(parameters, model.operation_model("RunTask").input_shape)
    if report.has_errors():
        yield report.generate_report()
    known = set(model.operation_model("RunTask").input_shape.members)
    yield from (f"RunTask has no parameter `{name}`" for name in parameters if name not in known)


def resolved(node):
    """Paths become a sample of what they select."""
    if isinstance(node, list):
        return [resolved(item) for item in node]
    if not isinstance(node, dict):
        return node
    values = {}
    for name, value in node.items():
        if name.endswith(".$"):
            values[name[:-2]] = ["sample"] if value.startswith("States.StringSplit(") else "sample"
        else:
            values[name] = resolved(value)
    return values


def camel(node):
    if isinstance(node, dict):
        return {name[:1].lower() + name[1:]: camel(value) for name, value in node.items()}
    return [camel(item) for item in node] if isinstance(node, list) else node


def machines(template_file, directory):
    from cfnlint.decode import cfn_yaml

    template = cfn_yaml.load(template_file)
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::StepFunctions::StateMachine":
            properties = resource["Properties"]
            place = pathlib.Path(template_file).parent / properties.pop("DefinitionS3Location")
            text = place.read_text(encoding="utf-8")
            properties["DefinitionString"] = text.replace("${Partition}", "aws")  # cfn-lint knows no other in a state machine
            for name in re.findall(r"\$\{(\w+)\}", text):
                if name not in properties["DefinitionSubstitutions"]:
                    yield f"{place.name}: `{name}` is not substituted"
            for name in properties["DefinitionSubstitutions"]:
                if f"${{{name}}}" not in text:
                    yield f"{place.name}: nothing names `{name}`"
    pathlib.Path(directory, "state-machines.json").write_text(json.dumps(template, default=str), encoding="utf-8")


if __name__ == "__main__":
    checks = {"policies": policies, "run-task": run_task, "machines": machines}
    problems = list(checks[sys.argv[1]](*sys.argv[2:]))
    print("\n".join(problems), end="\n" if problems else "")
    sys.exit(bool(problems))

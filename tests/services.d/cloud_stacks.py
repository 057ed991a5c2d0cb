"""CloudFormation of the local cloud: MiniStack's, which expands `AWS::LanguageExtensions` in a stack but not in a nested one."""

from ministack.services.cloudformation import engine, language_extensions

original_resolve_parameters = engine._resolve_parameters


def replace_in_ministack():
    engine._resolve_parameters = resolve_parameters


def resolve_parameters(template, provided, *rest, **named):
    values = original_resolve_parameters(template, provided, *rest, **named)
    if any(name.startswith("Fn::ForEach::") for name in template.get("Resources", {})):
        expanded = language_extensions.apply(template, {name: entry["Value"] for name, entry in values.items()})
        template["Resources"] = expanded["Resources"]
    return values

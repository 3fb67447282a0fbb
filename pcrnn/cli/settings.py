"""Flags of the settings of a run: one box of help a group of `pcrnn.config`, with every registered rule's options.

They are built when the program starts, since the tables of cells and rules may have been added to. A rule's option
that is not given stays None, so that each rule keeps its own default and an option given to the wrong rule is refused.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

from tyro.conf import Fixed, OmitArgPrefixes, Suppress, arg

from pcrnn.config import DataConfig, ModelConfig, OptimiserConfig, RuleConfig, RunConfig, TrainConfig, rule_option_names
from pcrnn.tables import RULES, options_of
from pcrnn.validation import OneOf, field_help, field_types

_GROUPS = {
    "data": DataConfig,
    "model": ModelConfig,
    "rule": RuleConfig,
    "optimiser": OptimiserConfig,
    "run": RunConfig,
}


class Base(NamedTuple):
    """What the flags start from: nothing, a TOML file, or a run that goes on."""

    config: TrainConfig
    written: Mapping[str, Any]  # settings by name, as far as the file or run has them
    goes_on: bool = False


def with_settings(command: type, base: Base) -> type:
    """A subclass of a command that has the flags of all settings too; `chosen` reads them."""
    fields: list[tuple[str, Any, Any]] = [("base", Suppress[Fixed[Any]], dataclasses.field(default=base))]
    for name, group in _GROUPS.items():
        flags = _group_flags(group, base)
        kind = OmitArgPrefixes[Annotated[flags, arg(name=name)]]
        fields.append((f"{name}_settings", kind, dataclasses.field(default_factory=flags)))
    return _make(command.__name__, command.__doc__, fields, (command,))


def with_values(argv: Sequence[str]) -> list[str]:
    """The arguments with `--name True` for `--name`, and False for `--no-name`, of switches that may be left open.

    >>> with_values(["--no-mixing", "--steps", "5"])
    ['--mixing', 'False', '--steps', '5']
    """
    fields = [field for group in _GROUPS.values() for field in field_types(group).items()]
    switches = [f"--{name.replace('_', '-')}" for name, hint in fields if _is_open_switch(hint)]
    found: list[str] = []
    for at, argument in enumerate(argv):
        given = argument.replace("_", "-")
        if given in switches and (at + 1 == len(argv) or argv[at + 1] not in ("True", "False", "None")):
            found += [given, "True"]
        elif given.replace("--no-", "--", 1) in switches and given.startswith("--no-"):
            found += [given.replace("--no-", "--", 1), "False"]
        else:
            found.append(argument)
    return found


def _is_open_switch(hint: Any) -> bool:
    """Whether a field is True, False or None, for what suits."""
    return _kinds(hint) == [bool] and _bare(hint) is not bool


def chosen(command: Any) -> TrainConfig:
    """The settings of a parsed command."""
    base: Base = command.base
    values: dict[str, Any] = {}
    for name in _GROUPS:
        values |= vars(getattr(command, f"{name}_settings"))
    names = set(base.config.as_mapping()) - set(base.config.rule_options)
    settings = {name: value for name, value in values.items() if name in names}
    given = {name: value for name, value in values.items() if name not in names and value is not None}
    if base.goes_on:  # so that an error is about what a resumed run keeps, not about options that exclude each other
        return base.config.updated(**settings, **given)
    written = {name: value for name, value in base.written.items() if name not in names}
    return TrainConfig.from_mapping(settings | written | given)


def _group_flags(group: type, base: Base) -> type:
    texts, defaults = field_help(group), base.config
    fields = [
        (name, Annotated[hint, _about(name, hint, texts.get(name))], getattr(defaults, name))
        for name, hint in field_types(group).items()
        if name != "rule_options"
    ]
    if group is RuleConfig:
        fields += _option_flags(base)
    return _make(group.__name__, group.__doc__, [(n, h, dataclasses.field(default=d)) for n, h, d in fields], ())


def _about(name: str, hint: Any, text: str | None) -> Any:
    if _is_open_switch(hint):
        return arg(help=f"{text} --no-{name.replace('_', '-')} turns it off.", metavar="")
    return arg(help=text, metavar=_names_metavar(hint))


def _option_flags(base: Base) -> Iterator[tuple[str, Any, Any]]:
    owners: dict[str, list[str]] = {}
    for rule in RULES:
        for name in rule_option_names(rule):
            owners.setdefault(name, []).append(rule)
    for name, rules in owners.items():
        kind = options_of(rules[0])
        hint, text = field_types(kind)[name], field_help(kind).get(name, "")
        if len(rules) < len(RULES):
            text = f"Rule {' or '.join(rules)}: {text[:1].lower()}{text[1:]}"
        default = _default(kind, name)
        if base.config.rule in rules:
            default = base.config.rule_options[name]
        about = arg(help=text, metavar=_metavar(hint), help_behavior_hint=f"(default: {default})")
        yield name, Annotated[_or_none(hint), about], None


def _default(kind: type, name: str) -> Any:
    (field,) = (field for field in dataclasses.fields(kind) if field.name == name)
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return "none, the rule needs one" if field.default is dataclasses.MISSING else field.default


def _or_none(hint: Any) -> Any:
    """The type of a flag that may be left out; a name is checked by the settings, whose error knows the nearest one."""
    bare = _bare(hint)
    return (str if _choices(hint) and all(isinstance(each, str) for each in _choices(hint)) else bare) | None


def _bare(hint: Any) -> Any:
    return _bare(get_args(hint)[0]) if get_origin(hint) is Annotated else hint


def _kinds(hint: Any) -> list[Any]:
    """The types that a value may have beside None; a tuple's are those of what it holds."""
    bare = _bare(hint)
    alternatives = (bare,) if get_origin(bare) is Literal else get_args(bare) or (bare,)
    return [kind for kind in alternatives if kind is not type(None)]


def _choices(hint: Any) -> tuple[Any, ...]:
    """The names that a flag may have; none where it is no name."""
    if get_origin(hint) is Annotated:
        for limit in get_args(hint)[1:]:
            if isinstance(limit, OneOf):
                return tuple(limit.table)
    (bare, *_) = _kinds(hint)
    return get_args(bare) if get_origin(bare) is Literal else ()


def _metavar(hint: Any) -> str | None:
    """What stands for the value of an option, whose type also has None; None leaves it to the parser."""
    if names := _names_metavar(hint):
        return names
    kinds = _kinds(hint)
    return {bool: "{True,False}", int: "INT", float: "FLOAT", str: "STR"}.get(kinds[0]) if len(kinds) == 1 else None


def _names_metavar(hint: Any) -> str | None:
    """`{gated,lstm}` for a name."""
    choices = _choices(hint)
    return "{" + ",".join(map(str, choices)) + "}" if choices else None


def _make(name: str, doc: str | None, fields: list[tuple[str, Any, Any]], bases: tuple[type, ...]) -> type:
    kind = dataclasses.make_dataclass(name, fields, bases=bases, frozen=True, kw_only=True)
    kind.__doc__ = doc
    return kind

"""Commands that are imported when they run, and help that shows examples first.

A group knows its commands from a static table: listing them imports nothing. Each command is a function whose
parameters are Typer options, or bundles of them (``options.py``).
"""

from __future__ import annotations

import difflib
import inspect
import sys
from collections.abc import Callable
from importlib import import_module
from types import SimpleNamespace
from typing import Any, ClassVar, NamedTuple, TypeVar, dataclass_transform, get_type_hints

import typer
from typer._click import Command, Context, HelpFormatter
from typer.core import TyperCommand, TyperGroup

from agentctl.errors import UsageError

T = TypeVar("T")


class Entry(NamedTuple):
    """Where a command lives: ``module`` below ``agentctl.cli`` and the function or group class ``attr`` in it."""

    module: str
    attr: str
    help: str
    section: str = "Commands"


def _show_help(ctx: Context, param: Any, wanted: bool) -> None:
    """As all output: Typer's own way would make exit 1 of a reader that left."""
    if wanted and not ctx.resilient_parsing:
        from agentctl.cli.output import write_text

        write_text(ctx.get_help() + "\n")
        ctx.exit()


def _telling(option: Any) -> Any:
    if option is not None:
        option.callback = _show_help
    return option


class HelpfulCommand(TyperCommand):
    """A command whose help says what it does, shows examples, then lists its options by theme."""

    def format_help(self, ctx: Context, formatter: HelpFormatter) -> None:
        _write_head(self, ctx, formatter)
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record:
                sections.setdefault(_section_of(param), []).append(record)
        _write_sections(formatter, sections)

    def get_help_option(self, ctx: Context) -> Any:
        return _telling(super().get_help_option(ctx))

    def collect_usage_pieces(self, ctx: Context) -> list[str]:
        """``SESSION [TEXT]``: Typer would write ``{SESSION} [TEXT]``."""
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]

    def format_epilog(self, ctx: Context, formatter: HelpFormatter) -> None:
        """The epilog holds the examples, which come first."""


def _section_of(param: Any) -> str:
    if param.param_type_name == "argument":
        return "Arguments"
    return getattr(param, "rich_help_panel", None) or "Options"


def _write_head(command: Command, ctx: Context, formatter: HelpFormatter) -> None:
    command.format_usage(ctx, formatter)
    command.format_help_text(ctx, formatter)
    if command.epilog:
        with formatter.section("Examples"):
            for line in inspect.cleandoc(command.epilog).splitlines():
                formatter.write(f"  {line}\n")


def _write_sections(formatter: HelpFormatter, sections: dict[str, list[tuple[str, str]]]) -> None:
    for name, rows in sections.items():
        with formatter.section(name):
            formatter.write_dl(rows)


def build(function: Callable[..., Any], name: str) -> Command:
    """The command that runs ``function``; its docstring is the help, its ``examples`` come from ``@examples``."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(name, cls=HelpfulCommand, epilog=getattr(function, "examples", None))(_flattened(function))
    return typer.main.get_command(app)


def examples(text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the examples that its help shows first."""

    def mark(function: Callable[..., Any]) -> Callable[..., Any]:
        function.examples = text  # type: ignore[attr-defined]  # functions take attributes
        return function

    return mark


@dataclass_transform(kw_only_default=True)
def options(cls: type[T]) -> type[T]:
    """Make a class of Annotated options usable as one parameter of a command.

    It is a dataclass to its users; a real one takes a millisecond to make, which every command would pay.
    """
    names = list(cls.__annotations__)

    def __init__(self: object, **given: Any) -> None:  # becomes the method of that name
        for name in names:
            setattr(self, name, given.get(name, getattr(cls, name)))

    cls.__init__ = __init__  # type: ignore[method-assign]  # what a dataclass does, too
    cls.is_option_bundle = True  # type: ignore[attr-defined]  # read by _flattened
    return cls


def _flattened(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` with every bundle replaced by its options, as Typer wants to see it."""
    hints = _hints(function.__annotations__, function.__globals__)
    hints.pop("return", None)
    bundles = {k: v for k, v in hints.items() if getattr(v, "is_option_bundle", False)}
    plain = [p for k, p in inspect.signature(function).parameters.items() if k not in bundles]
    parameters = [p.replace(annotation=hints[p.name], kind=inspect.Parameter.KEYWORD_ONLY) for p in plain]
    parameters += [p for bundle in bundles.values() for p in _parameters_of(bundle)]

    def call(**values: Any) -> Any:
        for name, bundle in bundles.items():
            values[name] = bundle(**{option: values.pop(option) for option in bundle.__annotations__})
        _hear_warnings()
        return function(**values)

    call.__doc__ = function.__doc__
    call.__name__ = function.__name__
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # inspect honours it
    call.__annotations__ = {p.name: p.annotation for p in parameters}
    return call


def _hints(annotations: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
    """As ``get_type_hints``, which compiles every text: most of them are the name of something that is there."""
    missing = {name: text for name, text in annotations.items() if text not in names}
    evaluated = get_type_hints(SimpleNamespace(__annotations__=missing), names, include_extras=True) if missing else {}
    return {name: evaluated[name] if name in missing else names[text] for name, text in annotations.items()}


def _hear_warnings() -> None:
    """Have what is wrong with the configuration told, once, by whatever command reads it first."""
    from agentctl.cli.output import write_story
    from agentctl.ops.app import App

    told: set[str] = set()

    def hear(text: str) -> None:
        if text not in told:
            told.add(text)
            write_story(text, "warning")

    App.hear_warnings[:] = [hear]


def _parameters_of(bundle: type) -> list[inspect.Parameter]:
    hints = _hints(bundle.__annotations__, vars(sys.modules[bundle.__module__]))
    return [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=getattr(bundle, name), annotation=hints[name])
        for name in bundle.__annotations__
    ]


class LazyGroup(TyperGroup):
    """A group over ``table``; ``aliases`` are accepted but not listed. Options may stand before the verb, too, and
    options ``anywhere`` are the group's own although they stand behind it; each of them takes a value."""

    table: ClassVar[dict[str, Entry]] = {}
    aliases: ClassVar[dict[str, str]] = {}
    anywhere: ClassVar[tuple[str, ...]] = ()

    def list_commands(self, ctx: Context) -> list[str]:
        return list(self.table)

    def get_help_option(self, ctx: Context) -> Any:
        return _telling(super().get_help_option(ctx))

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
        name = self.aliases.get(cmd_name, cmd_name)
        entry = self.table.get(name)
        if entry is None:
            return None
        target = getattr(import_module(f"agentctl.cli.{entry.module}"), entry.attr)
        return group(target, name, entry.help) if isinstance(target, type) else build(target, name)

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            sys.stderr.write(ctx.get_help() + "\n")
            raise typer.Exit(2)
        return super().parse_args(ctx, self._verb_first(self._own_first(args)))

    def _own_first(self, args: list[str]) -> list[str]:
        """``list --database-url URL`` → ``--database-url URL list``."""
        end = args.index("--") if "--" in args else len(args)
        at = next((i for i in range(end) if args[i].split("=")[0] in self.anywhere), None)
        if not at:
            return args
        width = 1 if "=" in args[at] else 2
        return [*args[at : at + width], *args[:at], *args[at + width :]]

    def _verb_first(self, args: list[str]) -> list[str]:
        """``--json list`` → ``list --json``; the group's own options stay where they are."""
        own = {name for param in self.params for name in param.opts} | {"--help", "-h"}
        if not args or not args[0].startswith("-") or args[0].split("=")[0] in own:
            return args
        words = [i for i, a in enumerate(args) if not a.startswith("-")]
        at = next((i for i in words if args[i] in self.table or args[i] in self.aliases), words[0] if words else None)
        return args if at is None else [args[at], *args[:at], *args[at + 1 :]]

    def resolve_command(self, ctx: Context, args: list[str]) -> tuple[str | None, Command | None, list[str]]:
        command = self.get_command(ctx, args[0])
        if command is None and not ctx.resilient_parsing:
            near = difflib.get_close_matches(args[0], [*self.table, *self.aliases], n=1)
            meant = f" Did you mean '{near[0]}'?" if near else ""
            raise UsageError(
                f"There is no command '{ctx.command_path} {args[0]}'.{meant}",
                hint=f"See {ctx.command_path} --help",
                details={"word": args[0], "near": near},
            )
        return (command.name if command else None), command, args[1:]

    def format_help(self, ctx: Context, formatter: HelpFormatter) -> None:
        _write_head(self, ctx, formatter)
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, entry in self.table.items():
            sections.setdefault(entry.section, []).append((name, entry.help))
        records = [param.get_help_record(ctx) for param in self.get_params(ctx)]
        _write_sections(formatter, sections | {"Options": [r for r in records if r]})


def group(
    cls: type[LazyGroup],
    name: str,
    help_text: str,
    *,
    completion: bool = False,
    callback: Callable[..., Any] = lambda: None,
) -> Command:
    """Build a lazy group as a Typer command; ``callback`` has the options of the group itself."""
    app = typer.Typer(
        name=name,
        cls=cls,
        help=help_text,
        epilog=getattr(cls, "examples", None),
        add_completion=completion,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["--help", "-h"]},
    )
    app.callback()(callback)
    return typer.main.get_command(app)

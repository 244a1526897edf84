"""Canonical JSON of events, effects and state: one value, one text, for ever.

The classes are attrs classes. For each of them a *wire class* is made from its type hints, a msgspec struct with the same fields
in the same order whose types are those of JSON. msgspec writes and reads the wire classes in C and strictly: an unknown
key, a missing key, a wrong type, ``true`` where a number stands, an integer beyond 64 bits are refused. Two small functions per
class, generated as source the way attrs generates ``__init__``, carry a value over and back.

===========================  =================================================================================
in the program               in the log
===========================  =================================================================================
int                          integer, -2^63 to 2^63 - 1
str, bool, None              string, boolean, null
Qty, Price, Usd, Bps         string, decimal number of at most 12 decimals in its shortest spelling: "0.007"
Notional                     the same with at most 24 decimals
Bucket                       the same, a whole number
StrEnum                      string, the value
tuple                        array
Map (persistent)             array of [key, value], ascending by key
attrs class                  object, keys in the order of the fields
one of several attrs classes object whose first key is ``class``, the name of the class
===========================  =================================================================================

``class`` is a word of the Python language, so no field can ever have that name.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import cache
from itertools import pairwise
from types import MappingProxyType, NoneType, UnionType
from typing import Annotated, Any, Final, Generic, TypeAlias, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import attrs
import msgspec
from immutables import Map

from ..effects import Bps, Effect, Notional, Price, Qty, Usd, from_text, to_text
from .bucket import Bucket
from .config import Config
from .core import Core
from .events import Event

T = TypeVar("T")
#: Turns the source text of a value into the source text of its conversion; None: the value is taken over as it is.
_Source: TypeAlias = Callable[[str], str] | None
_Int = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_DECIMALS: Final[Mapping[Any, int]] = MappingProxyType({Qty: 12, Price: 12, Usd: 12, Bps: 12, Notional: 24, Bucket: 0})
#: How long a number may be. No market has such numbers; without a bound, a log could make its reader compute for ever.
_NUMBER_TEXT: Final[Mapping[int, Any]] = MappingProxyType(
    {digits: Annotated[str, msgspec.Meta(max_length=longest)] for digits, longest in ((0, 64), (12, 64), (24, 160))}
)
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
#: What a value of a wrong type can raise on its way into the log.
_UNWRITABLE = (TypeError, ValueError, KeyError, AttributeError, OverflowError, msgspec.MsgspecError)


class CodecError(ValueError):
    """A value that cannot be written, or a text that is not the encoding of one. Names the class and the field."""


@attrs.frozen
class _Form:
    """How one type hint stands in the log: its wire type, and the code that converts out and back.

    ``names`` are the objects that the code refers to.
    """

    wire: Any
    out: _Source = None
    back: _Source = None
    names: Mapping[str, Any] = _NOTHING


def _form(hint: Any, depth: int = 0) -> _Form:
    """The form of any supported hint. Raises TypeError for others: an unsupported field shows at import, not in a log."""
    if hint in _DECIMALS:
        return _number_form(_DECIMALS[hint])
    if hint is int:
        return _Form(_Int)
    if hint in (str, bool) or (isinstance(hint, type) and issubclass(hint, StrEnum)):
        return _Form(hint)
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return _union_form(args, depth)
    if origin is tuple:
        return _tuple_form(args, depth)
    if origin is Map:
        return _map_form(args[0], args[1])
    if isinstance(hint, type) and attrs.has(hint):
        return _object_form(hint, tagged=False)
    raise TypeError(f"{hint!r} has no form in the log; see the table in fsm/codec.py")


def _number_form(digits: int) -> _Form:
    more = "" if digits == 12 else f", {digits}"
    names = {"to_text": to_text, "from_text": from_text}
    return _Form(_NUMBER_TEXT[digits], lambda x: f"to_text({x}{more})", lambda x: f"from_text({x}{more})", names)


def _union_form(args: tuple[Any, ...], depth: int) -> _Form:
    members = [arg for arg in args if arg is not NoneType]
    if len(members) == 1:
        form = _form(members[0], depth + 1)
    else:
        bad = [member for member in members if not (isinstance(member, type) and attrs.has(member))]
        if bad:
            raise TypeError(f"{bad[0]!r}: only attrs classes, and None, can be alternatives of each other in the log")
        wires = [_object(member, True, ()) for member in members]
        name = "_or_".join(member.__name__ for member in members)
        names = {
            f"out_{name}": {member: out for member, (_, out, _) in zip(members, wires, strict=True)},
            f"back_{name}": {wire: back for wire, _, back in wires},
        }
        form = _Form(
            Union[tuple(wire for wire, _, _ in wires)],  # noqa: UP007 - the operands exist only at run time
            lambda x: f"out_{name}[type(v{depth} := {x})](v{depth})",
            lambda x: f"back_{name}[type(v{depth} := {x})](v{depth})",
            names,
        )
    if len(members) == len(args):
        return form
    return _Form(form.wire | None, _unless_none(form.out, depth), _unless_none(form.back, depth), form.names)


def _unless_none(source: _Source, depth: int) -> _Source:
    if source is None:
        return None
    return lambda x: f"(None if (u{depth} := {x}) is None else {source(f'u{depth}')})"


def _tuple_form(args: tuple[Any, ...], depth: int) -> _Form:
    if len(args) == 2 and args[1] is Ellipsis:
        form = _form(args[0], depth + 1)
        wire: Any = tuple[form.wire, ...]  # type: ignore[name-defined]  # a type made at run time
        return _Form(wire, _each(form.out, depth), _each(form.back, depth), form.names)
    forms = [_form(arg, depth + 1) for arg in args]
    if any(form.out for form in forms):
        raise TypeError(f"tuple{list(args)}: a tuple of fixed length holds only int, str, bool and StrEnum; use an attrs class")
    return _Form(tuple[tuple(form.wire for form in forms)])  # type: ignore[misc]  # a type made at run time


def _each(source: _Source, depth: int) -> _Source:
    if source is None:
        return None
    return lambda x: f"tuple([{source(f'i{depth}')} for i{depth} in {x}])"


def _map_form(key: Any, value: Any) -> _Form:
    keys, values = _form(key), _form(value)
    if keys.out:
        raise TypeError(f"Map[{key!r}, ...]: keys are int, str or a tuple of them")
    out_value = _function("v", values.out, values.names)
    back_value = _function("v", values.back, values.names)

    def out(entries: Map[Any, Any]) -> list[tuple[Any, Any]]:
        return [(key, out_value(value)) for key, value in sorted(entries.items(), key=_key)]

    def back(pairs: tuple[tuple[Any, Any], ...]) -> Map[Any, Any]:
        for (one, _), (two, _) in pairwise(pairs):
            if not one < two:
                raise CodecError(f"the keys of a map must ascend; {two!r} follows {one!r}")
        return Map([(key, back_value(value)) for key, value in pairs])

    names = {f"out_{id(out)}": out, f"back_{id(back)}": back}
    wire: Any = tuple[tuple[keys.wire, values.wire], ...]  # type: ignore[name-defined]  # a type made at run time
    return _Form(wire, lambda x: f"out_{id(out)}({x})", lambda x: f"back_{id(back)}({x})", names)


def _key(pair: tuple[Any, Any]) -> Any:
    return pair[0]


def _object_form(cls: type, tagged: bool, left_out: tuple[tuple[str, Any], ...] = ()) -> _Form:
    wire, out, back = _object(cls, tagged, left_out)
    name = cls.__name__
    names = {f"out_{name}": out, f"back_{name}": back}
    return _Form(wire, lambda x: f"out_{name}({x})", lambda x: f"back_{name}({x})", names)


@cache  # The memo is no state: the same class has the same wire class with and without it.
def _object(cls: type, tagged: bool, left_out: tuple[tuple[str, Any], ...]) -> tuple[type, Callable[[Any], Any], Callable[[Any], Any]]:
    """The wire class of an attrs class, and the functions to it and from it.

    For ``Fence(epoch: int, counter: int)`` the generated functions are ``return Wire(o.epoch, o.counter)`` and
    ``return Fence(w.epoch, w.counter)``.
    """
    hints = get_type_hints(cls)
    fields = attrs.fields(cls)  # type: ignore[arg-type, unused-ignore]  # attrs.has(cls) holds
    forms = {field.name: _form(hints[field.name]) for field in fields if field.name not in dict(left_out)}
    tag = {"tag": cls.__name__, "tag_field": "class"} if tagged else {}
    wire = msgspec.defstruct(
        f"{cls.__name__}Wire", [(name, form.wire) for name, form in forms.items()], forbid_unknown_fields=True, gc=False, **cast(Any, tag)
    )
    out_of = {name: form.out(f"o.{name}") if form.out else f"o.{name}" for name, form in forms.items()}
    back_of = {name: form.back(f"w.{name}") if form.back else f"w.{name}" for name, form in forms.items()}
    names: dict[str, Any] = {"Wire": wire, "Class": cls, "left_out": dict(left_out)}
    for form in forms.values():
        names |= form.names

    def blame(value: Any, error: ValueError) -> CodecError:
        """The error with the place it came from, found by converting field by field. Only the bad path pays for this."""
        for name, source in back_of.items():
            try:
                eval(source, names, {"w": value})
            except ValueError as found:
                return CodecError(f"{cls.__name__}.{name}: {found}")
        return CodecError(f"{cls.__name__}: {error}")

    names["blame"] = blame
    arguments = ", ".join(back_of.get(field.name, f"left_out[{field.name!r}]") for field in fields)
    source = (
        f"def out(o):\n    return Wire({', '.join(out_of.values())})\n"
        f"def back(w):\n    try:\n        return Class({arguments})\n"
        "    except ValueError as error:\n        raise blame(w, error) from None\n"
    )
    exec(compile(source, f"<codec of {cls.__name__}>", "exec"), names)
    return wire, names["out"], names["back"]


def _function(argument: str, source: _Source, names: Mapping[str, Any]) -> Callable[[Any], Any]:
    if source is None:
        return _same
    return cast(Callable[[Any], Any], eval(f"lambda {argument}: {source(argument)}", dict(names)))


def _same(value: Any) -> Any:
    return value


class Coder(Generic[T]):
    """Encodes and decodes the values of one type.

    ``left_out`` names fields of an attrs class that do not stand in the text, each with the value it gets when the text is decoded.
    """

    def __init__(self, hint: Any, left_out: Mapping[str, Any] = _NOTHING) -> None:
        form = _object_form(hint, tagged=False, left_out=tuple(left_out.items())) if left_out else _form(hint)
        self._name = getattr(hint, "__name__", "value")
        self._out = _function("v", form.out, form.names)
        self._back = _function("v", form.back, form.names)
        self._write = msgspec.json.Encoder().encode
        self._read = msgspec.json.Decoder(form.wire).decode

    def encode(self, value: T) -> bytes:
        """The canonical text. Raises :class:`CodecError` when the value, against its type hints, has none."""
        try:
            return self._write(self._out(value))
        except _UNWRITABLE as error:
            raise CodecError(f"{type(value).__name__} cannot be written to a log: {type(error).__name__}: {error}") from None

    def check(self, text: bytes) -> None:
        """Refuse a text of wrong shape, without building the value: cheap enough to do before every write."""
        try:
            self._read(text)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise CodecError(self._where(text, error)) from None

    def decode(self, text: bytes | msgspec.Raw) -> T:
        """The value. Raises :class:`CodecError` that names the class and the field."""
        try:
            return cast(T, self._back(self._read(text)))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise CodecError(self._where(bytes(text), error)) from None

    def _where(self, text: bytes, error: Exception) -> str:
        try:
            found = msgspec.json.decode(text)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return f"not JSON: {error}"
        tag = found.get("class") if isinstance(found, dict) else None
        return f"{tag if isinstance(tag, str) else self._name}: {error}"


EVENTS: Final[Coder[Event]] = Coder(Event)
EFFECTS: Final[Coder[tuple[Effect, ...]]] = Coder(tuple[Effect, ...])
CONFIG: Final[Coder[Config]] = Coder(Config)
#: Fields of a core that are no part of the state, with what they are when it is read back.
NOT_STATE: Final[Mapping[str, Any]] = MappingProxyType({"resting": None, "touched": (), "once": None})
#: A snapshot.
STATE: Final[Coder[Core]] = Coder(Core, left_out=NOT_STATE)

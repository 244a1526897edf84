"""Numbers cross the edge exactly or not at all, and each has one spelling in a log.

Method: properties against ``decimal.Decimal`` at a precision at which it does not round, and a list of texts and objects to refuse.
"""

import decimal
from decimal import Decimal

import pytest
from haltcore.effects.values import (
    DIGITS,
    MAX_WHOLE,
    SCALE,
    Notional,
    Usd,
    ValueRefused,
    as_notional,
    bps,
    from_text,
    notional_text,
    price,
    qty,
    to_scaled,
    to_text,
    usd,
)
from hypothesis import example, given
from hypothesis import strategies as st

LIMIT = MAX_WHOLE * SCALE
scaled_numbers = st.integers(-LIMIT, LIMIT)


def decimal_of(scaled: int, digits: int = DIGITS) -> Decimal:
    with decimal.localcontext() as context:
        context.prec = 200
        return Decimal(scaled).scaleb(-digits)


@given(scaled_numbers)
@example(LIMIT)
@example(-LIMIT)
@example(0)
@example(1)
def test_the_way_over_decimal_and_back_is_exact(scaled: int) -> None:
    value = decimal_of(scaled)
    assert to_scaled(value, "x") == scaled
    assert to_scaled(str(value), "x") == scaled
    assert to_scaled(f"{value:f}", "x") == scaled
    assert to_scaled(to_text(scaled), "x") == scaled


@given(st.integers(-MAX_WHOLE, MAX_WHOLE))
def test_whole_numbers(whole: int) -> None:
    assert to_scaled(whole, "x") == to_scaled(str(whole), "x") == whole * SCALE


@given(st.decimals(allow_nan=False, allow_infinity=False))
@example(Decimal("1e-12"))
@example(Decimal("1e-13"))
@example(Decimal("1000000000000000.000000000001"))
@example(Decimal("0e999999"))
@example(Decimal("-0e-999999"))
@example(Decimal("1.0000000000000000000"))
def test_any_decimal_is_taken_exactly_or_refused(value: Decimal) -> None:
    with decimal.localcontext() as context:
        context.prec, context.Emax, context.Emin = 5_000, decimal.MAX_EMAX, decimal.MIN_EMIN
        small = value == 0 or -10_000 < value.adjusted() < 10_000
        product = value.scaleb(DIGITS) if small else None
        fits = product is not None and abs(product) <= LIMIT and product == product.to_integral_value()
    if fits and len(value.as_tuple().digits) <= 64:
        assert product is not None
        assert to_scaled(value, "x") == int(product)
    elif not fits:
        with pytest.raises(ValueRefused):
            to_scaled(value, "x")


REFUSED: list[object] = [
    0.1, 1.0, float("nan"), float("inf"), True, False, None, b"1", [1], 1j,
    "", " ", "-", "+", ".", "e", "e5", "1e", "abc", "0x10", "1,5", "1 000", "1_000", "--1", "1\x00",
    "NaN", "nan", "-NaN", "sNaN", "NaN123", "Infinity", "-inf", Decimal("NaN"), Decimal("sNaN"), Decimal("-Infinity"),
    "١", "１", "1٫5", "½", "−1",
    "1e-13", "0.0000000000001", "1e999999", "-1e999999", "1e-999999", "1e999999999999999", "1e99999999999999999999", "1" * 65,
    "1" + "0" * 30 + "e-60",
    "1000000000000000.000000000001", "1000000000000001", "-1000000000000001", 10**15 + 1, -(10**15) - 1, 10**5_000,
    Decimal("1e16"), Decimal("1e-13"), Decimal("1" * 5_000),
]  # fmt: skip


@pytest.mark.parametrize("value", REFUSED, ids=[f"{type(value).__name__}-{index}" for index, value in enumerate(REFUSED)])
def test_what_is_not_exact_is_refused_with_the_name_of_the_field(value: object) -> None:
    with pytest.raises(ValueRefused, match=r"^limits\.max: ") as refusal:
        to_scaled(value, "limits.max")  # type: ignore[arg-type]
    assert len(str(refusal.value)) < 10_000


def test_a_float_is_told_the_remedy() -> None:
    with pytest.raises(ValueRefused, match=r"qty: 0\.1 is a float; give a str, int or Decimal"):
        qty(0.1)  # type: ignore[arg-type]


@given(scaled_numbers, st.integers(1, 30), st.booleans())
def test_the_decimal_context_of_the_program_has_no_say(scaled: int, precision: int, trap: bool) -> None:
    value = decimal_of(scaled)
    with decimal.localcontext() as context:
        context.prec = precision
        if trap:
            context.traps[decimal.Inexact] = context.traps[decimal.Rounded] = context.traps[decimal.Subnormal] = True
        assert to_scaled(value, "x") == scaled
        with pytest.raises(ValueRefused):
            to_scaled("1000000000000001", "x")
        with pytest.raises(ValueRefused):
            to_scaled("1e-99999999", "x")


def test_each_kind_names_its_field_by_default() -> None:
    assert (qty("0.01"), price("50000"), usd("-3.5"), bps("150")) == (10**10, 5 * 10**16, -35 * 10**11, 15 * 10**13)
    for convert, field in ((qty, "qty"), (price, "price"), (usd, "usd"), (bps, "bps")):
        with pytest.raises(ValueRefused, match=f"^{field}: "):
            convert("x")
        with pytest.raises(ValueRefused, match=r"^row 3: "):
            convert("x", "row 3")


@given(st.integers(0, LIMIT), st.integers(0, LIMIT))
def test_price_times_quantity_compares_with_money(one: int, other: int) -> None:
    assert as_notional(Usd(one)) == one * SCALE
    product = decimal_of(one * other, 2 * DIGITS)
    with decimal.localcontext() as context:
        context.prec = 200
        assert product == decimal_of(one) * decimal_of(other)


@given(st.integers(), st.sampled_from([12, 24]))
def test_one_number_has_one_text(scaled: int, digits: int) -> None:
    text = to_text(scaled, digits)
    assert from_text(text, digits) == scaled
    assert Decimal(text) == decimal_of(scaled, digits)
    assert text == f"{decimal_of(scaled, digits).normalize(decimal.Context(prec=200)):f}"


@pytest.mark.parametrize(
    ("scaled", "text"),
    [(0, "0"), (7 * 10**9, "0.007"), (-1, "-0.000000000001"), (10**12, "1"), (-(10**13), "-10"), (15 * 10**11, "1.5")],
)
def test_the_texts_of_a_few_numbers(scaled: int, text: str) -> None:
    assert to_text(scaled) == text
    assert from_text(text) == scaled


OTHER_SPELLINGS = [
    "1.0", "+1", "01", "00", " 1", "1 ", "1\n", "-0", "-0.0", "0.0", "0.", ".5", "-.5", "1.", "1.50", "1e3", "1E3", "1_0", "0.1_0", "0_1",
    "", "-", "+", ".", "-.", "--1", "- 1", "0x1", "nan", "inf", "abc", "1.2.3", "1.-5", "0.+5", "0. 5", "0.-0",
    "١", "0.١", "１", "0.0000000000001", "0.0000000000010", "9" * 5_000,
]  # fmt: skip


@pytest.mark.parametrize("text", OTHER_SPELLINGS, ids=lambda text: ascii(text)[:20])
def test_any_other_spelling_is_refused(text: str) -> None:
    with pytest.raises(ValueRefused, match="not a decimal number as a log writes it"):
        from_text(text)


@given(st.one_of(st.text("0123456789.-+ _eE", max_size=8), st.text(max_size=5)))
def test_no_text_is_read_as_a_number_that_would_be_written_otherwise(text: str) -> None:
    try:
        scaled = from_text(text)
    except ValueRefused:
        return
    assert to_text(scaled) == text


@pytest.mark.parametrize(("one", "other", "text"), [("50000", "0.13", "6500"), ("0.000000000001", "0.000000000001", "0." + "0" * 23 + "1")])
def test_a_notional_has_a_scale_of_its_own(one: str, other: str, text: str) -> None:
    assert notional_text(Notional(price(one) * qty(other))) == text
    assert notional_text(Notional(-price(one) * qty(other))) == "-" + text


def test_the_memo_never_changes_an_answer() -> None:
    to_text.cache_clear()
    first = [to_text(10**9, 12), to_text(10**9, 24)]
    assert [to_text(10**9, 12), to_text(10**9, 24)] == first == ["0.001", "0.000000000000001"]
    assert (from_text("0.001", 12), from_text("0.001", 24)) == (10**9, 10**21)

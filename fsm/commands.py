"""Submit, cancel, replace: what a bot asks for, and the answer it gets in the same step.

A submit ends in ``Place`` or ``Denied``, a replace in ``Replace``, ``Denied`` or ``Rejected``, a cancel in ``Cancel`` or ``Rejected``. In
a session under guard ``ClaimGuard`` stands for ``Place`` and ``Replace``, which follow with its answer or never (``guards.py``); a cancel
of an order that waits for its claim needs no effect. From the moment of ``Place`` or ``ClaimGuard`` on the order exists and counts at its
worst case: reserved by the decision, not by the venue's word (RTS 6 Art. 15(2): all sent orders count at once).
"""

import attrs
from immutables import Map

from ..effects import Denied, client_order_id
from . import guards, watch
from .ask import Ask, ask_to_replace, ask_to_submit, pending, replace_reserve, reserve_for
from .checks import duplicate_window, fingerprint, self_match_prevented
from .core import Core
from .degraded import Deed
from .doubt import send_cancel
from .events import CancelOrder, Halt, ReplaceOrder, SubmitOrder
from .order import NO_FILLS, Ended, Order, OrderSpec, Replacement, Requests
from .order_change import Note, Times
from .order_rules import apply
from .risk import Finding, all_findings, first_denial
from .store_view import degraded
from .turn import NS_PER_MS, Turn, guarded

_TEXT = {
    Note.NOT_WORKING: "the order has ended or is not live yet",
    Note.CANCEL_PENDING: "a cancel of the order is under way",
    Note.REPLACE_PENDING: "a replace of the order is under way",
}


def submit(turn: Turn, event: SubmitOrder) -> None:
    """Place an order, or deny it."""
    if turn.resting is not None and not self_match_prevented(turn.desk):
        turn.resting = None  # nobody asks for it any more, so nobody need keep it
    ask = ask_to_submit(turn, event, turn.n)
    denial = first_denial(ask)
    if denial is not None:
        _deny(turn, ask, denial, 0)
        return
    e, key, desk = event, turn.n, turn.desk
    client_id = client_order_id(desk.config.session, key)
    claimer, params, earlier = (guards.owner(turn), guards.place_params(e), turn.flow.intention) if e.once else ("", "", 0)
    spec = OrderSpec(
        client_id, e.symbol, ask.sym, e.side, e.type, e.tif, e.post_only, e.reduce_only, e.stop_price, e.strategy, turn.now_ns,
        e.trader, e.client, ask.owner, ask.book.contract.inverse, e.once, claimer, params, earlier,
    )  # fmt: skip
    if guarded(desk):
        claim = guards.claim_place(turn, key, spec, e)
        requests = Requests(claim, claim=claim)
    else:
        requests = Requests(guards.place(turn, key, spec, e.qty, e.price, desk.epoch))
    one_book = spec.conditional and not desk.config.venue.conditional
    reserve = reserve_for(e, ask.book)
    turn.put_order(None, Order(key, spec, "", e.qty, e.price, reserve, False, one_book, Halt.NONE, Ended.NO, NO_FILLS, requests))
    _remember(turn, ask)


def _deny(turn: Turn, ask: Ask, denial: Finding, order: int) -> None:
    codes = tuple(finding.code for finding in all_findings(ask) if finding.reason) if ask.wanted.explain else ()
    symbol = ask.wanted.symbol if isinstance(ask.wanted.symbol, str) else ""
    turn.emit(Denied, denial.code, denial.reason, symbol, order, codes)
    turn.metric("mm_orders_denied_total", 1, denial.code)
    if denial.code == "store_unavailable":
        degraded(turn, Deed.AMEND if order else Deed.PLACE)


def _remember(turn: Turn, ask: Ask) -> None:
    """Keep the intent, so that it is known when it comes again; also the intention behind it, where it says one.

    Intents lie in two maps, of this window and of the one before; when a window is over, the elder map is dropped as a whole. So what is
    kept is bounded by what is submitted within two windows, and no step pays for many.
    """
    if ask.wanted.once:
        turn.once = turn.intentions().set(ask.wanted.once, ask.key)
        turn.flow = attrs.evolve(turn.flow, intention=ask.key)
    window, flow = duplicate_window(ask), turn.flow
    if not window:
        if flow.intents or flow.intents_before:
            turn.flow = attrs.evolve(flow, intents=Map(), intents_before=Map())
        return
    intents, before, since = flow.intents, flow.intents_before, flow.intents_ns
    if turn.now_ns - since >= window * NS_PER_MS:
        intents, before, since = Map(), intents, turn.now_ns
    turn.flow = attrs.evolve(flow, intents=intents.set(fingerprint(ask.wanted), ask.key), intents_before=before, intents_ns=since)


def cancel(turn: Turn, event: CancelOrder) -> None:
    """Cancel an order, and keep wanting it cancelled until it has ended."""
    order = turn.order(event.order)
    if order is None:
        turn.reject("unknown_order", f"no order has the key {event.order}")
        return
    after, notes = apply(order, "want_cancel", event, Times(turn.now_ns, 0))
    if notes and Note.CANCEL not in notes:
        turn.reject(notes[0].value, _TEXT[notes[0]])
        return
    turn.put_order(order, after)
    if notes:
        send_cancel(turn, after)


def replace(turn: Turn, event: ReplaceOrder) -> None:
    """Replace an order, if it is live and the gate lets the change through."""
    order = turn.order(event.order)
    if order is None:
        turn.reject("unknown_order", f"no order has the key {event.order}")
        return
    _, notes = apply(order, "want_replace", event, Times(turn.now_ns, 0))
    if notes:
        turn.reject(notes[0].value, _TEXT[notes[0]])
        return
    ask = ask_to_replace(turn, order, event)
    denial = first_denial(ask)
    if denial is not None:
        _deny(turn, ask, denial, order.key)
        return
    reserve = replace_reserve(ask.wanted, ask.book)
    if guarded(turn.desk):
        claim = guards.claim_replace(turn, order, event.qty, event.price)
        replacement = Replacement(claim, event.qty, event.price, reserve, claim)
    else:
        effect = guards.change(turn, order, event.qty, event.price, turn.desk.epoch)
        replacement = Replacement(effect, event.qty, event.price, reserve)
    turn.put_order(order, pending(order, replacement))


def explain(core: Core, event: SubmitOrder | ReplaceOrder) -> list[Finding]:
    """Every check of the gate for this command, without changing anything. Empty for a replace of an order that is not known."""
    ask = ask_about(core, event)
    if ask is not None:
        return all_findings(ask)
    return [Finding("not_started", "the session has not begun; feed Started first")] if core.desk is None else []


def ask_about(core: Core, event: SubmitOrder | ReplaceOrder) -> Ask | None:
    """The gate's question as the next step would put it. Its turn is never closed, so nothing comes of it.

    None before the session begins, and for a replace of an order that is not known.
    """
    if core.desk is None:
        return None
    turn = Turn(core, core.desk, event.at_ns)
    watch.before(turn, event)
    if isinstance(event, SubmitOrder):
        return ask_to_submit(turn, event, turn.n)
    order = turn.order(event.order)
    return None if order is None else ask_to_replace(turn, order, event)

"""Alerts to people: the one performer that every set-up needs, because an alert that nobody hears is no alert.

By default each alert is one line of the standard logger ``haltcore``, at the level of its severity, so it goes wherever the
program's log goes. A program with a pager passes its own function.
"""

import logging
from collections.abc import Callable, Sequence

from ..effects import Alert, Effect, Severity
from ..fsm.events import Event

_LOG = logging.getLogger("haltcore")
_LEVELS = {Severity.INFO: logging.INFO, Severity.WARNING: logging.WARNING, Severity.CRITICAL: logging.CRITICAL}


def line(alert: Alert) -> str:
    """The alert as one line: code, text, and what it is about. Line breaks in the text become spaces."""
    about = (f" symbol={alert.symbol}" if alert.symbol else "") + (f" order={alert.order}" if alert.order else "")
    return " ".join(f"{alert.code}: {alert.text}{about}".split())


def log(alert: Alert) -> None:
    """Write the alert to the logger ``haltcore``."""
    _LOG.log(_LEVELS[alert.severity], "%s", line(alert))


class People:
    """Serves ``Alert`` effects by handing each one to ``tell``."""

    serves: Sequence[type[Effect]] = (Alert,)

    def __init__(self, tell: Callable[[Alert], object] = log) -> None:
        self._tell = tell

    async def perform(self, effect: Effect) -> Sequence[Event]:
        """Never raises. When ``tell`` does, the alert goes to the log instead, with what was wrong."""
        if isinstance(effect, Alert):
            try:
                self._tell(effect)
            except Exception:
                _LOG.critical("%s (this alert could not be delivered)", line(effect), exc_info=True)
        return ()

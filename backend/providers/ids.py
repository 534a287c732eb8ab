"""The identifiers that the standard makes us invent (sections 2 and 6). RULE: pure; the serial and the moment are arguments.

    x-api-tran-id  AN(25)   operator(10) M serial(14)                                            one per call
    tx_id          aNS(74)  MD_operator(10)_provider(10)_relay(10)_ca(10)_YYYYMMDDHHMMSS_serial(12)   one per consent
    sign_tx_id     aNS(49)  operator(10)_ca(10)_YYYYMMDDHHMMSS_serial(12)                            one per signature

The standard wants a tran-id unique within a day over all of the operator's processes. Serials are base 36, so 14 places are 72 bits:
each process counts up from its own random start. A thousand processes that send a thousand million calls each in one day have one
chance in six million of using any id twice, and a repeated id confuses a log, never a person's data.
"""

from __future__ import annotations

from datetime import datetime

from backend.clock import KST

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_OPERATOR = "M"  # subject code of an operator's own call
_NO_RELAY = "0" * 10

SERIAL_SPAN = 36**14  # serials lie in [0, SERIAL_SPAN)


class Serials:
    """A source of serials for one process. Give it a random `start` (`secrets.randbelow(SERIAL_SPAN)`), after any fork."""

    def __init__(self, start: int) -> None:
        self._last = start % SERIAL_SPAN

    def next(self) -> int:
        """The following serial; the count wraps at `SERIAL_SPAN`."""
        self._last = (self._last + 1) % SERIAL_SPAN
        return self._last


def tran_id(operator: str, serial: int) -> str:
    """`x-api-tran-id` of a call that the operator makes."""
    return f"{operator}{_OPERATOR}{_base36(serial, 14)}"


def tx_id(operator: str, provider: str, ca: str, moment: datetime, serial: int) -> str:
    """Names one consent of one signature; `moment` is written in KST."""
    return f"MD_{operator}_{provider}_{_NO_RELAY}_{ca}_{_stamp(moment)}_{_base36(serial, 12)}"


def sign_tx_id(operator: str, ca: str, moment: datetime, serial: int) -> str:
    """Names one signature; `moment` is written in KST."""
    return f"{operator}_{ca}_{_stamp(moment)}_{_base36(serial, 12)}"


def _stamp(moment: datetime) -> str:
    return moment.astimezone(KST).strftime("%Y%m%d%H%M%S")


def _base36(number: int, places: int) -> str:
    """The lowest `places` digits of `number`."""
    digits = []
    for _ in range(places):
        number, digit = divmod(number, 36)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))

"""What exceptions are by their class's name, so that no client library is imported.

The connection comes first: what Python, asyncio and HTTP clients raise about it. A WebSocket that is closed carries a *close code* in its
attribute ``code`` (RFC 6455 section 7.4); that is no venue's word on an order, however much it looks like one of its codes.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from .failure_classes import FailureClass as F

#: A WebSocket that was closed under a request: of the packages websockets, websocket-client, tornado, starlette and httpx-ws.
CLOSED: Final = (
    "ConnectionClosed", "ConnectionClosedError", "ConnectionClosedOK", "WebSocketConnectionClosedException", "WebSocketClosedError",
    "WebSocketDisconnect", "WebSocketNetworkError",
)  # fmt: skip
#: By class name: what Python, asyncio and HTTP clients raise about the connection. Connecting comes before sending, so what fails while
#: connecting was not sent.
LOCAL: Final[Mapping[str, F]] = MappingProxyType(
    {
        **dict.fromkeys(
            (
                "ConnectionRefusedError", "gaierror", "ClientConnectorError", "ConnectionTimeoutError", "ConnectError", "ConnectTimeout",
                "PoolTimeout", "NewConnectionError", "ConnectTimeoutError",
            ),
            F.NOT_SENT,
        ),
        **dict.fromkeys(
            (
                "ConnectionError", "ServerDisconnectedError", "ClientOSError", "ClientPayloadError", "IncompleteReadError", "ReadError",
                "WriteError", "RemoteProtocolError", "ProtocolError", "SSLError", "OSError", *CLOSED,
            ),
            F.NETWORK,
        ),
        **dict.fromkeys(("TimeoutError", "CancelledError", "TimeoutException", "Timeout"), F.UNKNOWN_OUTCOME),
    }
)  # fmt: skip

#: By class name: ccxt's exceptions whose text holds no code. Those that mix what was refused with what nobody knows are in doubt: plain
#: ExchangeError, InvalidOrder (a duplicate id is one), ExchangeNotAvailable and its child OnMaintenance. ExchangeClosedByUser ends the wait
#: for an answer, not the order.
EXCEPTIONS: Final[Mapping[str, F]] = MappingProxyType(
    {
        **dict.fromkeys(("ExchangeError", "InvalidOrder", "OperationRejected"), F.UNKNOWN),
        **dict.fromkeys(("OperationFailed", "RequestTimeout", "ExchangeNotAvailable", "BadResponse"), F.UNKNOWN_OUTCOME),
        **dict.fromkeys(("DDoSProtection", "RateLimitExceeded"), F.RATE_LIMIT),
        **dict.fromkeys(("ArgumentsRequired", "BadRequest", "NotSupported", "InvalidAddress"), F.BAD_REQUEST),
        **dict.fromkeys(("OrderImmediatelyFillable", "OrderNotFillable"), F.WOULD_CROSS),
        **dict.fromkeys(("PermissionDenied", "AccountSuspended", "RestrictedLocation", "ManualInteractionNeeded"), F.RESTRICTED),
        **dict.fromkeys(("ContractUnavailable", "MarketClosed", "NoChange", "InvalidProxySettings"), F.REJECTED),
        "AuthenticationError": F.AUTH,
        "CancelPending": F.NOT_CANCELLABLE,
        "DuplicateOrderId": F.DUPLICATE_ID,
        "InsufficientFunds": F.INSUFFICIENT_BALANCE,
        "InvalidNonce": F.TIMEOUT,
        **dict.fromkeys(("NetworkError", "ExchangeClosedByUser"), F.NETWORK),
        "OnMaintenance": F.TEMPORARY_ERROR,
        "OrderNotFound": F.NOT_FOUND,
        "OrderNotCached": F.NOT_FOUND,
    }
)

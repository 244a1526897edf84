"""What venues' codes, statuses, sentences and exceptions are, grouped by class.

The codes are all those of the error-code data (``error_codes.json``, from the venues' documents and ccxt 4.5.90's tables). A test
reads that file where it is present, and finds each code here. How a code got its class, the first that applies:

1. The documents say "execution status unknown": ``temporary_error`` or ``unknown_outcome``, so in doubt on a place. The same for "server
   timeout", "submitted for processing", "order timed out", though ccxt raises a definite error for some (Bybit 10000, OKX 51149).
2. The documented wording says what it is: a duplicate id, a post-only reject, an order that is filled already, a receive window
   that has passed (Binance -1021 and -5028, Bybit 10002 and -1, OKX 50102), a ban.
3. "Try again": ``busy`` where the wording leaves no doubt that it was not taken, else ``temporary_error``. What comes with a 5xx (OKX
   50001, Binance's spot -1001) does not leave none.
4. The class that ccxt raises: InsufficientFunds, InvalidOrder (``validation``), BadRequest, OperationRejected and so on. OperationFailed,
   ExchangeNotAvailable, BadResponse are trouble inside the venue: ``temporary_error``.
5. Otherwise ``unknown``, which is in doubt: a question too many is cheaper than an order too many. Most of these belong to loans,
   savings and transfers.

A run of neighbouring codes is written ``first..last``. Nothing here was tried against a venue.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from attrs import frozen

from .failure_classes import FailureClass as F

_Table = Mapping[str, F]


def _numbers(groups: Mapping[F, str]) -> _Table:
    """One entry per code; "WS_1" is the code "WS 1". Raises ValueError for a code that is named twice."""
    return _one_each((code, group) for group, words in groups.items() for word in words.split() for code in _expanded(word))


def _expanded(word: str) -> tuple[str, ...]:
    first, dots, last = word.partition("..")
    if not dots:
        return (word.replace("_", " "),)
    start, end = int(first), int(last)
    way = 1 if start < end else -1
    return tuple(str(number) for number in range(start, end + way, way))


def _texts(groups: Mapping[F, tuple[str, ...]]) -> _Table:
    return _one_each((text, group) for group, texts in groups.items() for text in texts)


def _one_each(pairs: Iterable[tuple[str, F]]) -> _Table:
    table: dict[str, F] = {}
    for code, group in pairs:
        if table.setdefault(code, group) is not group:
            raise ValueError(f"code {code} is both {table[code]} and {group}")
    return MappingProxyType(table)


BINANCE_SPOT: Final = _numbers(
    {
        F.RATE_LIMIT: "-1003 -1015 -1034 -1181 -1191 -2042",
        F.TIMEOUT: "-1021",
        # Binance sends these three with a 5xx, which on its spot market is in doubt; ccxt hides the status behind the code.
        F.TEMPORARY_ERROR: "-1000 -1001 -1006 -1008 -1016",
        F.UNKNOWN_OUTCOME: "-1007",
        F.PARTIAL: "-2021",
        F.VALIDATION: "-1013 -1111",
        F.BAD_REQUEST: (
            "-1014 -1020 -1033 -1100..-1106 -1108 -1114..-1121 -1127 -1128 -1130 -1134 -1135 -1139 -1145 -1151..-1153 -1155 -1158 "
            "-1160 -1161 -1165 -1166 -1168..-1180 -1182..-1190 -1194 -1196..-1199 -1210 -1211 -1221..-1225 -2035 -2036 -2039"
        ),
        F.REJECTED: "-1112 -1122 -1220 -2016 -2022 -2043",
        F.AUTH: "-1002 -1022 -1035 -1125 -2014 -2015",
        F.NOT_FOUND: "-2013",
        F.NOT_CANCELLABLE: "-2011 -2026",
        # Their sentence decides, and one that is not known may be "duplicate" in other words.
        F.UNKNOWN: "-1010 -2010 -2038",
    }
)
_BINANCE_USDM: Final = _numbers(
    {
        F.RATE_LIMIT: "-1003",
        F.TIMEOUT: "-5028",
        F.BUSY: "-1001 -1008 -4400",
        F.TEMPORARY_ERROR: "-1000 -1006 -2012 -4078 -5041",
        F.UNKNOWN_OUTCOME: "-1007",
        F.DUPLICATE_ID: "-4116",
        F.INSUFFICIENT_BALANCE: "-2018 -2019 -2024",
        F.VALIDATION: "-1013 -2026 -4120 -4136 -4164 -5047",
        F.BAD_REQUEST: (
            "-1004 -1014 -1023 -1110 -1113 -1126 -1136 -4063..-4066 -4069..-4071 -4073 -4075 -4079 -4081 -4085 -4114 -4115 -4140 "
            "-4144 -4165 -4167 -4168 -4183 -4184 -4210 -4211 -5037..-5040"
        ),
        F.REJECTED: (
            "-1122 -2016 -2020 -2022 -2025 -2027 -2028 -4072 -4074 -4076 -4077 -4117 -4118 -4131 -4141 -4169..-4172 -4208 -4209 "
            "-4531 -5021 -5024..-5027"
        ),
        F.WOULD_CROSS: "-2021 -5022",
        F.AUTH: "-1002 -1099 -2017",
        F.RESTRICTED: "-1005 -1011 -1109 -2023 -4080 -4087 -4088 -4192 -4202 -4203 -4205 -4206 -4401..-4403",
        F.UNKNOWN: "-1010",
    }
)
BYBIT: Final = _numbers(
    {
        F.RATE_LIMIT: "429 10006 10018 30035 170005 170222 WS_10429 WS_10003 WS_20003",
        F.BAN: "10009",
        F.TIMEOUT: "10002 -1",
        F.BUSY: "110079 170191 170197..170200",
        F.MAINTENANCE: "110063 110066 WS_10019",
        F.TEMPORARY_ERROR: (
            "60080 110114 131003 131080 131087 131200 131201 131206 131216 131230 140003 148019 148021 148026 148034..148036 170001 "
            "170032 170149 170150 170234 176133 177002 700021 790000 3400214 3777005 3777006 3777012 3777043 34022001 34022003 "
            "35000011"
        ),
        F.UNKNOWN_OUTCOME: "0 10000 10016 170007 170035 170146 170147 170195 170196 WS_10016",
        F.DUPLICATE_ID: "10014 110030 110072 170141 WS_20006",
        F.INSUFFICIENT_BALANCE: (
            "110004 110006 110007 110012 110014 110044 110045 110051..110053 131001 131085 131212 140004 170033 170034 170131 "
            "170223 170226 176015"
        ),
        F.VALIDATION: (
            "110003 110019 110031..110033 110036..110038 110054..110059 110064 110070 110092..110094 140005 170010 170011 170019 "
            "170115..170117 170121 170124 170132..170134 170136 170137 170140 170148 170151 170157 170159 170192..170194 "
            "170202..170204 170206 170228 170229 170371 170372 181002..181004 182000"
        ),
        F.BAD_REQUEST: (
            "10001 10017 110013 110015 110018 110024 110028 110029 110043 110046..110050 110060..110062 110071 110073 131002 131086 "
            "131088 131089 131094..131096 131202..131205 131207 131209..131211 131213..131215 131231 131232 170036 170037 170105 "
            "170130 170221 170227 176002..176014 176016..176031 176034 176038..176040 181000 181001 181017 WS_10404"
        ),
        F.REJECTED: (
            "110005 110009 110011 110016 110017 110020..110023 110025..110027 110034 110035 110039..110042 110074 110080 110089 "
            "110090 110095..110099 170210"
        ),
        F.WOULD_CROSS: "170217 170218",
        F.AUTH: "10003 10004 10007 10010 33004 131004 -2015",
        F.RESTRICTED: (
            "10005 10008 10024 10027..10029 100028 110065 110067..110069 170031 170201 170209 170224 170241 176035..176037"
        ),
        F.NOT_FOUND: "110001 140001 170143 170213",
        F.NOT_CANCELLABLE: "110008 110010 170139 170142 170144 170145 170190",
        F.UNKNOWN: (
            "20096 30133..30136 30208 30209 30228 30256 34040 40004 60061..60079 60081..60095 60200 60201 61000..61010 81007 "
            "110075..110078 110082 110083 110085..110088 110100..110113 110115..110121 110123..110125 110131 110132 110135..110137 "
            "110300..110321 110323 111008 131065..131079 131081..131084 131090..131093 131097..131099 131208 131217 131226..131229 "
            "131233 131239 140002 141004 141019 141020 141025 141027 148001..148018 148020 148022..148025 148027..148033 "
            "148037..148042 148047 148048 170207 170212 170215 170216 170219 170220 170230 170310..170313 170341 170344 170346 "
            "170348 170355 170358..170360 170381 170382 170709 170810 176132 176134..176139 176201 177003..177021 180000..180031 "
            "181005..181014 181018 181019 182011 182021 182100..182108 182110..182112 182200..182205 400000..400007 400101..400103 "
            "400105 403001 404001 404011 409011 500000 500001 500010 500011 700000..700013 700016 700022 790001 3100181 3100197 "
            "3100326 3200316 3200317 3200320 3200403 3200419 3200425 3200641 3400052..3400054 3400071 3400139 3400208..3400213 "
            "3401010 3500002 3500153 3500402..3500407 3500415 3777002..3777004 3777007 3777027 3777029 3777030 3777039 3777040 "
            "3777042 34022010 34022011 34022014 34022027 34022030 34022031 34022033..34022036 34022038 34022041 34022044 34022045 "
            "34022047..34022053 34022094 34022107 34022108"
        ),
    }
)
OKX: Final = _numbers(
    {
        F.RATE_LIMIT: "50011 50061 51113 58102 60014 60023",
        F.TIMEOUT: "50102 60006",
        F.BUSY: "50013 51120 51162 51163",
        F.MAINTENANCE: "50005 51767 51774",
        F.TEMPORARY_ERROR: "50001 50026 54073 58007 58111 58112 59216 60016 63999 70066",
        # 1009 and 4001 to 4088 are the codes with which a WebSocket is closed; an order that was sent on it may be live.
        F.NETWORK: "1009 4001..4008 4088 60015 64008",
        F.UNKNOWN_OUTCOME: "50004 51149",
        F.PARTIAL: "2",
        F.DUPLICATE_ID: "51011 51016",
        F.INSUFFICIENT_BALANCE: "51008 51119 51127 51131 51502 51736 51764 51772 58229 58350 59103 59108 59200 59201 59411",
        F.VALIDATION: (
            "51004..51007 51020 51031 51046 51047 51051 51072..51074 51090..51096 51098..51108 51110 51112 51115..51118 51121 51122 "
            "51124..51126 51128 51129 51132..51139 51166 51174 51185 51201..51205 51250..51265 51267..51280 51321 51322 51325 "
            "51327..51330 54008 54009 54011 54051 54094 55100..55104 55111..55113 59128"
        ),
        F.BAD_REQUEST: (
            "50000 50002 50006 50010 50014..50016 50024 50025 50044 50108 50109 50115 51000..51003 51012 51014 51015 "
            "51026 51111 51130 51156 51159 51323 51324 51406..51409 51500 51501 51600..51602 51765 51768 51770 58125..58128 58203 "
            "58207 58221 58222 58224 58227 58228 59414 59642 59684 59686 60012 60013 60017..60019 60027 60028 64000..64002 64004 "
            "70010 70013 70016 70060..70062 70064 70065 70067"
        ),
        F.REJECTED: "51017..51019 51021..51023 51025 51027..51030 51109 51506 51508 59410 59412 59413",
        F.WOULD_CROSS: "51511",
        F.AUTH: (
            "50008 50101 50103..50107 50111..50114 51732..51734 58001 58213 59113 60001..60005 60007..60011 60022 60024 "
            "60026 60031 60032"
        ),
        F.RESTRICTED: (
            "50007 50009 50012 50017..50023 50027 50028 50062 50100 50110 51009 51010 51024 51155 51763 51773 58002 58004 "
            "58101 58204 59260 59262 59508 60021 60029 60030 64003"
        ),
        F.NOT_FOUND: "51400 51405 51503 51603",
        F.NOT_CANCELLABLE: "51401..51404 51410 51509 51510",
        F.UNKNOWN: (
            "1 51735 51766 51769 51771 52000 54000 54001 54072 54074 58000 58003 58005 58006 58100 58103..58110 58114..58117 "
            "58200..58202 58205 58206 58208..58212 58300 59000 59001 59100..59102 59104..59107 59109 59300 59301 59313 59401 "
            "59500..59507 59515..59519 59643 59683 60020 60025"
        ),
    }
)
DERIBIT: Final = _numbers(
    {
        F.RATE_LIMIT: "10028 11093",
        F.BUSY: "10040 10047",
        F.MAINTENANCE: "10041 11051",
        F.TEMPORARY_ERROR: "10001 11031 11094 13008",
        F.INSUFFICIENT_BALANCE: "10009",
        F.VALIDATION: "10002 10005..10008 10011 10021..10027 10032 10034..10036 10043..10046 11036 11038 11039 11041",
        F.BAD_REQUEST: (
            "10020 10030 10031 10033 11029 11037 11043 11045..11050 11052 11090..11092 11095 11096 12002 13010 13011 13013..13019 "
            "-32000 -32601 -32602 -32700"
        ),
        F.REJECTED: "10003 10012..10018 10048 11030 11035 12001 12100",
        F.WOULD_CROSS: "11054",
        F.AUTH: "10000 12000 12003..12005 12998..13001 13003..13007 13009",
        F.RESTRICTED: "9999 10019 10029 11042 13002 13012 13021 13025",
        F.NOT_FOUND: "10004 11053 13020",
        F.NOT_CANCELLABLE: "10010 11008 11044",
    }
)
KRAKEN_SPOT: Final = _texts(
    {
        F.RATE_LIMIT: (
            "EAPI:Rate limit exceeded", "EOrder:Rate limit exceeded", "EGeneral:Too many requests", ":Rate limit exceeded",
            "EService:Throttled",
        ),
        F.BAN: ("EGeneral:Temporary lockout",),
        F.TIMEOUT: ("EAPI:Invalid nonce", ":Invalid nonce"),
        F.MAINTENANCE: ("EService:Market in cancel_only mode", "EService:Market in post_only mode"),
        F.TEMPORARY_ERROR: ("EService:Unavailable", "EDatabase:Internal error", "EService:Busy", "EGeneral:Internal error"),
        F.UNKNOWN_OUTCOME: ("EService:Deadline elapsed",),
        F.INSUFFICIENT_BALANCE: ("EOrder:Margin allowance exceeded", "EOrder:Insufficient funds", ":IInsufficient funds"),
        F.VALIDATION: (
            "EGeneral:Invalid arguments:price", "EOrder:Invalid price:Invalid price argument", "EOrder:Order minimum not met",
            ":Invalid order", ":Invalid arguments:volume", ":Invalid arguments:viqc",
        ),
        F.BAD_REQUEST: (
            "EGeneral:Invalid arguments", "EQuery:Invalid asset pair", "EFunding:Unknown withdraw key", "EFunding:Invalid amount",
            "EQuery:Unknown asset", "EFunding:No funding method", "EFunding:Unknown asset",
        ),
        F.REJECTED: (
            "EGeneral:Invalid arguments:Index unavailable", "EOrder:Cannot open opposing position", "EOrder:Cannot open position",
        ),
        F.AUTH: ("EAPI:Invalid key", "EAPI:Invalid signature", "ESession:Invalid session"),
        F.RESTRICTED: ("EGeneral:Permission denied", "ETrade:User Locked"),
        F.NOT_FOUND: ("EOrder:Unknown order",),
        F.NOT_CANCELLABLE: (":Cancel pending",),
    }
)
KRAKEN_FUTURES: Final = _texts(
    {
        F.RATE_LIMIT: ("apiLimitExceeded",),
        F.TIMEOUT: ("nonceBelowThreshold", "nonceDuplicate"),
        F.TEMPORARY_ERROR: ("unavailable", "Unavailable", "Server Error", "unknownError"),
        F.INSUFFICIENT_BALANCE: ("insufficientFunds", "INSUFFICIENT_MARGIN"),
        F.BAD_REQUEST: (
            "requiredArgumentMissing", "invalidAccount", "invalidAmount", "Bad Request", "invalidUnit", "Json Parse Error",
            "contractNotFound", "invalidArgument",
        ),
        F.REJECTED: ("marketUnavailable",),
        F.AUTH: ("authenticationError",),
        F.RESTRICTED: ("accountInactive",),
        F.NOT_FOUND: ("notFound",),
    }
)
BITMEX: Final = _texts(
    {
        F.BUSY: ("overloaded",),
        F.TEMPORARY_ERROR: ("Service unavailable", "Server Error"),
        F.DUPLICATE_ID: ("Duplicate clOrdID",),
        F.INSUFFICIENT_BALANCE: ("Account has insufficient Available Balance",),
        F.VALIDATION: ("orderQty is invalid", "Invalid price", "Invalid stopPx for ordType"),
        F.AUTH: ("Invalid API Key.", "Signature not valid"),
        F.RESTRICTED: ("This key is disabled.", "Access Denied", "Account is restricted", "We require all new traders to verify"),
        F.NOT_CANCELLABLE: ("Unable to cancel order due to existing state",),
    }
)
# The futures' documents name what differs; the rest is as on the spot market.
BINANCE_USDM: Final[_Table] = MappingProxyType({**BINANCE_SPOT, **_BINANCE_USDM})

#: By venue. Of Kraken and BitMEX the codes are words, and a code matches that has them as a part.
CODES: Final[Mapping[str, _Table]] = MappingProxyType(
    {
        "binance_spot": BINANCE_SPOT,
        "binance_usdm": BINANCE_USDM,
        "bybit_v5": BYBIT,
        "okx_v5": OKX,
        "deribit": DERIBIT,
        "kraken_spot": KRAKEN_SPOT,
        "kraken_futures": KRAKEN_FUTURES,
        "bitmex": BITMEX,
    }
)
#: ccxt's ids of the same venues, and short ones.
ALIASES: Final = MappingProxyType(
    {
        "binance": "binance_spot", "binanceus": "binance_spot", "binanceusdm": "binance_usdm", "binancecoinm": "binance_usdm",
        "bybit": "bybit_v5", "okx": "okx_v5", "kraken": "kraken_spot", "krakenfutures": "kraken_futures",
    }
)  # fmt: skip

#: Binance gives one code for many sentences, of which some say that an order is a duplicate, or is live and may not be cancelled.
_BINANCE_SENTENCES: Final = (
    ("Unknown order sent", F.NOT_FOUND),
    ("Duplicate order sent", F.DUPLICATE_ID),
    ("Market is closed", F.REJECTED),
    ("insufficient balance", F.INSUFFICIENT_BALANCE),
    ("not supported for this symbol", F.REJECTED),
    ("not support for this symbol", F.REJECTED),
    ("Price * QTY is zero or less", F.VALIDATION),
    ("IcebergQty exceeds QTY", F.VALIDATION),
    ("action is disabled on this account", F.RESTRICTED),
    ("may not place or cancel orders", F.RESTRICTED),
    ("Unsupported order combination", F.BAD_REQUEST),
    ("would trigger immediately", F.WOULD_CROSS),
    ("Cancel order is invalid", F.BAD_REQUEST),
    ("would immediately match and take", F.WOULD_CROSS),
    ("relationship of the prices", F.VALIDATION),
    ("not permitted for this account", F.RESTRICTED),
    ("restricted for this account", F.RESTRICTED),
    ("cancel restrictions", F.NOT_CANCELLABLE),
    ("API trading is not enabled", F.RESTRICTED),
    ("Order book liquidity is", F.REJECTED),
    ("(quantity increase) is not supported", F.REJECTED),
    ("would change no state", F.REJECTED),
    ("may not use pegged price", F.VALIDATION),
    ("price peg cannot be used", F.VALIDATION),
)
_BINANCE = MappingProxyType(dict.fromkeys(("-1010", "-2010", "-2011", "-2038"), _BINANCE_SENTENCES))
#: By venue and code: words of its sentence, and the class.
SENTENCES: Final[Mapping[str, Mapping[str, tuple[tuple[str, F], ...]]]] = MappingProxyType(
    {"binance_spot": _BINANCE, "binance_usdm": _BINANCE}
)

#: By venue: words of an answer that leave it in doubt, whatever the status.
TEXTS: Final[Mapping[str, tuple[tuple[str, F], ...]]] = MappingProxyType(
    {"binance_usdm": (("Unknown error, please check", F.UNKNOWN_OUTCOME), ("Request occur unknown error", F.TEMPORARY_ERROR))}
)


@frozen
class Outright:
    """An answer with a 5xx that is a definite "not taken" all the same: its code or the whole of its message, and what says so."""

    venue: str
    status: int
    said: str
    failure_class: F
    source: str


_USDM: Final = "Binance USDS-M futures, General Info, HTTP Return Codes: 503, \"failed API operation\", to be sent again"
#: All of them. Any other 5xx leaves a place, a replace and a cancel in doubt, and so do these with another status, or as words of a page.
OUTRIGHT: Final = (
    Outright("binance_usdm", 503, "Service Unavailable.", F.BUSY, _USDM),
    Outright("binance_usdm", 503, "Internal error; unable to process your request. Please try again.", F.BUSY, _USDM),
    Outright("binance_usdm", 503, "-1008", F.BUSY, _USDM + "; of this code: \"request throttled by system-level protection\""),
    Outright(
        "bitmex", 503, "The system is currently overloaded. Please try again later.", F.BUSY,
        "BitMEX REST API, Overload: the request was not queued",
    ),
)  # fmt: skip

#: By venue ("": every other) and HTTP status, without a code. 5xx and the rest: see ``failures._by_status``. 403 is Binance's firewall and
#: Bybit's limit per address; 409 is Binance's half-done cancel-replace.
STATUSES: Final[Mapping[str, Mapping[int, F]]] = MappingProxyType(
    {
        "": MappingProxyType(
            {
                **dict.fromkeys((400, 404, 405, 406, 410, 411, 413, 414, 415, 422), F.BAD_REQUEST),
                **dict.fromkeys((401, 407), F.AUTH),
                **dict.fromkeys((403, 451), F.RESTRICTED),
                408: F.UNKNOWN_OUTCOME,
                409: F.PARTIAL,
            }
        ),
        **dict.fromkeys(("binance_spot", "binance_usdm", "bybit_v5"), MappingProxyType({403: F.BAN})),
    }
)

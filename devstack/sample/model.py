"""What a sample mail is made of: people, attachments, mails, threads; and the people themselves."""

from collections.abc import Callable
from dataclasses import dataclass, field

COMPANY = "Tidewell Marine Engineering"
DOMAIN = "tidewell.example"


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who writes or receives mail."""

    name: str
    address: str
    signature: str


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file of a mail. ``render`` makes its bytes, the same ones every time."""

    name: str
    media_type: str
    kind: str
    render: Callable[[], bytes]
    content_id: str | None = None  # set for an image shown inside an HTML body


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail of a thread. Without ``subject`` it bears the thread's, with "Re: " from the second on."""

    sender: str
    to: tuple[str, ...]
    date: str  # "2025-01-14 09:12", local time in Scotland
    body: str = ""  # empty: the mail has its HTML body only
    html: str = ""
    cc: tuple[str, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    forwarded: "Mail | None" = None  # attached as message/rfc822
    subject: str | None = None
    quote: bool = False  # whether the mail it answers is quoted below
    signed: bool = True
    charset: str = "utf-8"
    encoding: str | None = None  # "8bit", "base64", "quoted-printable"; None leaves the choice
    labels: tuple[str, ...] = ()  # beside the thread's


@dataclass(frozen=True, slots=True)
class Thread:
    """Mails that answer one another, oldest first."""

    subject: str
    mails: tuple[Mail, ...]
    labels: tuple[str, ...] = field(default=())  # empty: the mails have no labels header


def _staff(name: str, role: str, phone: str) -> Person:
    address = f"{name.lower().replace(' ', '.')}@{DOMAIN}"
    return Person(name, address, f"{name}\n{role}\n{COMPANY} · Imperial Dock, Leith · {phone}")


PEOPLE: dict[str, Person] = {
    "helen": _staff("Helen Marsh", "Managing director", "0131 496 0100"),
    "tomasz": _staff("Tomasz Wolny", "Chief engineer", "0131 496 0104"),
    "priya": _staff("Priya Nair", "Finance", "0131 496 0107"),
    "owen": _staff("Owen Pritchard", "Foreman", "0131 496 0112"),
    "ingrid": _staff("Ingrid Solberg", "Project manager", "0131 496 0115"),
    "lukas": _staff("Lukas Brandt", "Büro Hamburg", "+49 40 5550 1820"),
    "dawn": _staff("Dawn Achebe", "Office and people", "0131 496 0101"),
    "sam": _staff("Sam Okafor", "IT", "0131 496 0119"),
    "ruth": _staff("Ruth Lindqvist", "Naval architect", "0131 496 0122"),
    "joe": Person("Joe Tully", f"joe.tully@{DOMAIN}", "Joe"),
    "alasdair": Person("Alasdair Gunn", f"alasdair.gunn@{DOMAIN}", "A. Gunn, stores"),
    "all": Person("Everybody", f"all@{DOMAIN}", ""),
    "sandison": Person(
        "Magnus Sandison",
        "m.sandison@northsound.example",
        "Magnus Sandison\nTechnical superintendent\nNorthsound Ferries, Stromness",
    ),
    "isbister": Person(
        "Captain Freya Isbister", "f.isbister@scapapilots.example", "Freya Isbister\nScapa Pilots"
    ),
    "hallgrim": Person(
        "Berit Hallgrim", "berit@hallgrim.example", "Berit Hallgrim\nHallgrim Kulelager AS, Bergen"
    ),
    "verity": Person(
        "Neil Varley", "neil.varley@nordvik.example", "Neil Varley\nSurveyor, Nordvik Verification"
    ),
    "legoff": Person(
        "Agnès Le Goff", "agnes@chantier-legoff.example", "Agnès Le Goff\nChantier Le Goff, Brest"
    ),
    "harms": Person(
        "Uwe Harms", "u.harms@suederelbe-schlepp.example", "Uwe Harms\nSüderelbe Schleppgesellschaft mbH"
    ),
    "strachan": Person(
        "Ewan Strachan", "ewan@strachan-lighters.example", "Ewan Strachan\nStrachan Lighterage"
    ),
    "moir": Person("Finlay Moir", "finlay@moirbaird.example", "Finlay Moir\nMoir & Baird, brokers"),
    "stead": Person(
        "Caroline Stead", "c.stead@steadcole.example", "Caroline Stead FCILA\nStead Cole Adjusters"
    ),
    "quintela": Person("Marta Quintela", "marta.quintela@postbox.example", "Marta Quintela"),
    "kerr": Person(
        "Moira Kerr", "moira.kerr@workplace-inspectorate.example", "Moira Kerr\nPrincipal inspector"
    ),
    "weiss": Person(
        "Katrin Weiß", "weiss@kanzlei-weiss.example", "Katrin Weiß\nSteuerberaterin, Hamburg-Altona"
    ),
    "duffy": Person("Colm Duffy", "colm.duffy@revenue.example", "C. Duffy\nHigher officer, compliance"),
    "leckie": Person("Gordon Leckie", "gordon@leckieproperty.example", "Gordon Leckie\nLeckie Property"),
    "bianchi": Person("Rosa Bianchi", "rosa@bianchi-kitchen.example", "Rosa\nBianchi Kitchens"),
    "zielinska": Person("Hanna Zielińska", "hanna@baltmar.example", "Hanna Zielińska\nBaltMar Expo, Gdańsk"),
    "macrae": Person(
        "Iona Macrae", "iona.macrae@hebrides-survey.example", "Dr Iona Macrae\nHebrides Seabed Survey"
    ),
    "patel": Person("Anil Patel", "anil@sunward.example", "Anil Patel\nSunward Roofs"),
    "tidings": Person("Dockside Tidings", "editor@docksidetidings.example", ""),
}

"""Sample threads: customers, quotations, the trade fair, the trade press."""

from devstack.sample import papers_operations as papers
from devstack.sample.model import Mail, Thread
from devstack.sample.scans import LOGO

PILOTS = Thread(
    "Skua Rock shakes",
    labels=("Customers", "Important"),
    mails=(
        Mail(
            "isbister",
            ("helen",),
            "2025-08-18 06:55",
            """Ms Marsh,

I have now rung your office three times and been promised three times that
somebody would ring back. Nobody has. Meanwhile my cutter shudders so badly
at nineteen hundred revolutions that the coffee walks off the chart table,
and last night a pilot refused to go out in her. We paid 312,000 pounds for
that repower. I expect one of your engineers on the pier at Scapa by
Thursday, or I shall put the whole story in front of our solicitor.""",
            charset="iso-8859-1",
            encoding="8bit",
        ),
        Mail(
            "helen",
            ("isbister",),
            "2025-08-18 08:20",
            """Captain Isbister,

You are right to be cross and I apologise. Two of the three messages went to
a colleague who is away and whose desk nobody was covering; that is our
fault, not yours. Tomasz Wolny is booked on the 07:10 to Kirkwall tomorrow
with his instruments, at our expense, and will stay until she runs smoothly.""",
            cc=("tomasz",),
            quote=True,
        ),
        Mail(
            "tomasz",
            ("helen", "ruth"),
            "2025-08-20 19:03",
            """Found it. The trial data from May, zipped below, already show a peak that we
should have chased and did not. One engine foot was standing on a fold of
rubber as thick as a thumbnail. I have cut it out, shimmed the foot by 1.8
mm and aligned the coupling again; this afternoon we ran her up and down
Scapa Flow with a full cup on the table and did not spill a drop. The
captain shook my hand, which I am told is rare.""",
            attachments=(papers.COMMISSIONING,),
        ),
        Mail(
            "isbister",
            ("helen",),
            "2025-08-22 12:40",
            """Ms Marsh,

She is a different vessel. Mr Wolny may have a job here whenever he tires of
you. I have told the solicitor to close the file.""",
            cc=("tomasz",),
            signed=False,
        ),
    ),
)

FAIR = Thread(
    "BaltMar in Gdańsk: our stand",
    labels=("Marketing",),
    mails=(
        Mail(
            "zielinska",
            ("helen",),
            "2025-05-06 09:00",
            """Dear Ms Marsh,

Stand B-117 is yours, on the corner opposite the Finnish pavilion as you
wished. The proforma is attached; with payment before the end of May you
keep the early rate. Please note that open flames and running engines are
not allowed in the hall, though I remember how well your small steam launch
went down in 2023.""",
            attachments=(papers.STAND_INVOICE,),
        ),
        Mail(
            "zielinska",
            ("helen",),
            "2025-08-11 09:00",
            """Dear exhibitors,

Our last news before the doors open is attached. See you in September!""",
            subject="BaltMar: exhibitors' news",
            attachments=(papers.FAIR_NEWSLETTER,),
        ),
        Mail(
            "helen",
            ("ruth", "lukas", "tomasz"),
            "2025-08-25 13:15",
            """All,

The duty plan for the fair is in the calendar entry. Rooms are at the Hotel
Admirał, Tobiasza 9, from Monday to Friday. Lukas brings the cut-away
propeller by road from Hamburg; the rest of us fly via Schiphol. Please take
proper shoes, last time Tomasz stood for three days on a cable duct.""",
            attachments=(papers.FAIR_CALENDAR,),
        ),
        Mail(
            "ruth",
            ("helen", "dawn"),
            "2025-09-20 21:12",
            """We got home at last, a day late. At Schiphol a fog came down like a lid at
noon and nothing left the ground. They gave us a cheese roll and a blanket;
we sat nine hours at gate D27, then a coach brought us to a hotel in Haarlem
at one in the morning. Dawn, may I claim the taxi, 84 euros, although there
is only a photo of the meter?""",
            subject="Stranded on the way back",
        ),
        Mail(
            "lukas",
            ("helen",),
            "2025-09-22 10:37",
            """Helen,

What came of it: 143 visiting cards, nineteen serious conversations, two
that smell of money. The Port of Klaipėda wants four line-handling boats and
asks for our price by 31 October. And a Mr Aaltonen from Turku would like to
build our hull form under licence; he offered nine per cent of the sale
price without being asked.""",
            cc=("ruth",),
        ),
    ),
)

PETREL = Thread(
    "Survey launch Petrel: moon pool",
    labels=("Quotations",),
    mails=(
        Mail(
            "macrae",
            ("ruth",),
            "2025-10-02 15:26",
            """Dear Ruth,

We would like to lower our multibeam sonar through the bottom of the Petrel
instead of hanging it over the side, where the kelp takes it off every other
week. Is there room between frames 9 and 11? And could she carry an A-frame
aft for the sediment corer? Our grant from the Moray Foundation allows
90,000 pounds altogether.""",
            cc=("helen",),
        ),
        Mail(
            "ruth",
            ("macrae",),
            "2025-10-20 11:48",
            """Dear Iona,

Yes and yes. The quotation is attached, together with the weights, from
which you will see that she stays on the right side of the rule, though not
by a mile. If you can live without the old trawl winch she would thank you.
Slot: after New Year, from 12 January.""",
            cc=("helen",),
            attachments=(papers.PETREL_QUOTE, papers.PETREL_WEIGHTS),
            quote=True,
        ),
        Mail(
            "macrae",
            ("ruth", "helen"),
            "2025-11-24 10:09",
            """Dear both,

The trustees met on Friday. They would give us the money for the hole but
not for the gantry, so please go ahead with the first line and the wiring of
Q-1093 only. The order number is HSS/25/667.""",
        ),
    ),
)

NEWS_HTML = """<html><body style="font-family: sans-serif">
<p><img src="cid:logo@tidewell.example" alt="Tidewell"></p>
<h2>Corriemore is back at sea</h2>
<p>Our largest job of the spring is done: in forty-six days Shed 3 gave the ferry <b>Corriemore</b>
a new stretch of
shell, a rebuilt thruster and 212 seats the colour of lichen.</p>
<p>Open day: come and see the yard on <b>Saturday 14 June</b>, 11 to 16 hrs. There will be
rope-making for children,
a brass band from Newhaven, and Alasdair's famous smoked haddock.</p>
<p>Helen Marsh and everybody at Imperial Dock</p>
</body></html>"""

CIRCULAR = Thread(
    "Tidewell news, spring 2025",
    labels=("Marketing",),
    mails=(
        Mail(
            "helen",
            ("all",),
            "2025-05-02 12:00",
            """Corriemore is back at sea

Our largest job of the spring is done: in forty-six days Shed 3 gave the
ferry Corriemore a new stretch of shell, a rebuilt thruster and 212 seats
the colour of lichen.

Open day: come and see the yard on Saturday 14 June, 11 to 16 hrs. There
will be rope-making for children, a brass band from Newhaven, and Alasdair's
famous smoked haddock.

Helen Marsh and everybody at Imperial Dock""",
            html=NEWS_HTML,
            attachments=(LOGO,),
            signed=False,
        ),
    ),
)

PRESS = Thread(
    "Dockside Tidings, week 43",
    labels=("Newsletters",),
    mails=(
        Mail(
            "tidings",
            ("helen",),
            "2025-10-22 05:30",
            html="""<html><body><h1>Dockside Tidings, week 43</h1>
<h3>Granary pier to close for dredging</h3><p>Barges will be sent round by the Albert basin from 3
November until the
middle of December; the harbour master expects delays of two tides.</p>
<h3>Methil yard saved</h3><p>The Fife welders' co-operative has taken over the lease of the Methil
yard with its
fifty-one jobs. Their first hull is a mussel boat.</p>
<h3>Tug wanted</h3><p>A reader in Lerwick seeks a tug of 1950 to 1965, engine no object.</p>
<p><small>You receive this because you subscribed at the Leith gala.</small></p></body></html>""",
            encoding="quoted-printable",
        ),
    ),
)

KLAIPEDA = Thread(
    "Line-handling boats for Klaipėda",
    labels=("Quotations", "Important"),
    mails=(
        Mail(
            "lukas",
            ("helen", "priya"),
            "2025-10-29 16:33",
            """Our price must be with the harbour authority by noon on Friday. I propose
418,000 euros a boat, 1.61 million for the four, with the third and fourth
built at Methil if they are free. The Lithuanians ask for a bid bond of two
per cent; Priya, can the bank turn that round in a day?""",
        ),
        Mail(
            "priya",
            ("lukas",),
            "2025-10-30 09:58",
            """The bank can, but only against a cash deposit, and they charge 385 pounds.
Helen has signed. Please do not promise Methil by name before somebody has
spoken to them.""",
            cc=("helen",),
            quote=True,
        ),
        Mail(
            "lukas",
            ("helen", "priya", "tomasz", "ruth"),
            "2025-12-04 17:45",
            """We came second. A yard in Pärnu undercut us by forty thousand a boat. The
harbour master was kind about it: he said our drawings were the best he saw
and that the Estonians have never built in aluminium before. He will keep
our number in his desk.""",
        ),
    ),
)

THREADS = (PILOTS, FAIR, PETREL, CIRCULAR, PRESS, KLAIPEDA)

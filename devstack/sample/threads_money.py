"""Sample threads: insurance, taxes, customers who pay late, the board."""

from devstack.sample import papers_office as papers
from devstack.sample.model import Mail, Thread
from devstack.sample.papers_operations import QUARTER_SLIDES

CLAIM = Thread(
    "The Minnow and the lock gate",
    labels=("Insurance",),
    mails=(
        Mail(
            "priya",
            ("moir",),
            "2025-03-17 14:25",
            """Dear Finlay,

In Wednesday's blow our little Minnow got loose and went nose first into the
gate. Nobody was aboard. The claim form is attached, with a photo of what
the tug's skipper gave us at the quayside; he takes cards nowadays.""",
            cc=("helen",),
            attachments=(papers.CLAIM, papers.TOW_RECEIPT),
        ),
        Mail(
            "moir",
            ("priya",),
            "2025-03-18 09:45",
            """Dear Priya,

Lodged this morning with Thistle Mutual. They send Caroline Stead, who is
thorough but fair. Do not let anybody throw away the old rope! The excess is
1,500 pounds.""",
            cc=("helen",),
            quote=True,
        ),
        Mail(
            "stead",
            ("helen",),
            "2025-04-14 10:30",
            """Dear Ms Marsh,

Please find my letter to underwriters attached. The figure may disappoint
you, and you are free to challenge it, but I would point out that the
fairlead had no chafing gear whatever.""",
            cc=("moir", "priya"),
            attachments=(papers.ADJUSTER_LETTER,),
        ),
        Mail(
            "helen",
            ("moir",),
            "2025-04-15 08:08",
            """Finlay, she is right about the fairlead and we take it. Owen has fitted
leather to all fourteen.""",
            cc=("priya",),
        ),
    ),
)

AUDIT = Thread(
    "VAT visit in June",
    labels=("Tax",),
    mails=(
        Mail(
            "duffy",
            ("priya",),
            "2025-05-27 10:00",
            """Dear Ms Nair,

I intend to visit on Wednesday 18 June to examine the returns for 2024.
Please have ready a reconciliation by quarter, the fuel card statements, and
a summary of the payroll, the latter protected by a password.""",
            cc=("helen",),
        ),
        Mail(
            "priya",
            ("duffy",),
            "2025-06-11 16:20",
            """Dear Mr Duffy,

Both are attached; I will tell you the password by telephone. You will see
one difference that we found ourselves. We have written to your Southend
office about it and paid on 2 June.""",
            cc=("helen",),
            attachments=(papers.VAT, papers.PAYROLL),
            quote=True,
        ),
        Mail(
            "priya",
            ("helen",),
            "2025-06-18 17:30",
            """He has come and gone. Two cups of tea, four hours, one remark about fuel
cards. He accepts our correction and there will be no penalty because we
owned up first. I am going to lie down.""",
        ),
    ),
)

HAMBURG_AUDIT = Thread(
    "Außenprüfung Hamburg",
    labels=("Tax",),
    mails=(
        Mail(
            "weiss",
            ("lukas",),
            "2025-08-07 14:02",
            """Lieber Herr Brandt,

die Prüfungsanordnung ist gestern eingegangen, Sie finden sie im Anhang.
Machen Sie sich keine Sorgen: Die Bücher sind in Ordnung. Kritisch könnten
nur die Bewirtungsbelege aus dem Jahr 2022 werden, auf denen der Anlass
fehlt. Bitte tragen Sie ihn nach, soweit Sie sich erinnern, und bringen Sie
das Fahrtenbuch bis zum 22. August vorbei.""",
            cc=("helen", "priya"),
            attachments=(papers.AUDIT_ORDER,),
        ),
        Mail(
            "lukas",
            ("helen", "priya"),
            "2025-10-01 12:12",
            """For those who do not read German: the inspector was here for six days. He
struck out eleven dinners for which I could not remember the guests, which
costs us 1,940 euros with interest. The rest he found "vorbildlich".""",
        ),
    ),
)

LATE = Thread(
    "Northsound: second stage overdue",
    labels=("Customers",),
    mails=(
        Mail(
            "priya",
            ("sandison",),
            "2025-07-01 10:10",
            """Dear Mr Sandison,

The statement is attached. The second stage has now been open for sixty
days. I have to ask for it by 14 July; after that our terms oblige me to
charge interest, and I would far rather not.""",
            cc=("helen",),
            attachments=(papers.STATEMENT,),
        ),
        Mail(
            "sandison",
            ("priya", "helen"),
            "2025-07-08 15:15",
            """Dear both,

I am ashamed. The invoice had been lying with our council's auditor, who was
in hospital with his knee. It was released today, and the money should be
with you on Thursday. The chute is splendid, by the way: 71 seconds.""",
            quote=True,
        ),
    ),
)

BOARD = Thread(
    "Board, 10 July",
    labels=("Board", "Important"),
    mails=(
        Mail(
            "helen",
            ("priya", "tomasz", "ruth"),
            "2025-07-07 18:30",
            """Dear all, the slides for Thursday. Please read them beforehand, so that we
can spend the hour on the winch and on who should follow Sir Hector.""",
            attachments=(QUARTER_SLIDES,),
        ),
        Mail(
            "priya",
            ("helen", "tomasz", "ruth"),
            "2025-07-14 11:50",
            """The minutes are attached. If I hear nothing by Friday I take them as agreed.""",
            attachments=(papers.MINUTES,),
        ),
    ),
)

SUN = Thread(
    "The south slope of Shed 3",
    labels=("Quotations", "Yard"),
    mails=(
        Mail(
            "patel",
            ("helen",),
            "2025-06-24 13:00",
            """Dear Ms Marsh,

It was a pleasure to climb about on your shed. You have the best slope in
Leith and no trees. My proposal is attached; in a normal year you would make
about a third of what the welders burn, and sell some at weekends.""",
            attachments=(papers.SOLAR,),
        ),
        Mail(
            "helen",
            ("patel",),
            "2025-07-15 09:33",
            """Dear Mr Patel,

The board likes it but has to buy a winch first. Could you hold your price
until next April? If so, I will put it at the head of the list for the new
year.""",
            cc=("priya",),
            quote=True,
        ),
    ),
)

PENSION = Thread(
    "A word about pensions",
    mails=(
        Mail(
            "priya",
            ("all",),
            "2025-11-26 10:45",
            """The fund moves from Carrick Life to the Seafarers' Provident on 1 January.
Your contributions and what we add, five and seven per cent, stay as they
are. You need do nothing unless you had chosen the shares-only plan: then
please come and see me before 12 December, because the new house does not
offer it. Moira Laidlaw of the Provident answers questions at Pier Road on 3
December between two and five.""",
        ),
    ),
)

THREADS = (CLAIM, AUDIT, HAMBURG_AUDIT, LATE, BOARD, SUN, PENSION)

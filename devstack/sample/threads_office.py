"""Sample threads: the house itself, its machines, its kitchen, its visitors."""

from devstack.sample import papers_office as papers
from devstack.sample.model import Mail, Thread

BOILER = Thread(
    "Everyone in coats again",
    labels=("Office",),
    mails=(
        Mail(
            "dawn",
            ("helen",),
            "2025-01-20 08:47",
            """Helen,

The boiler gave up some time on Saturday night. The radiators are stone
cold, there was ice on the inside of the drawing-office panes, and people
are sitting at their desks in coats and mittens. I have sent the ladies from
accounts home and bought four oil stoves. McPhail the plumber says that the
pump has seized and the part comes from Dundee; he is here tomorrow at noon.""",
        ),
        Mail(
            "dawn",
            ("all",),
            "2025-01-21 15:10",
            """McPhail has been, and it runs. He gives the new pump ten years and the rest
of it one, so we should put money aside. Please keep the stairwell door shut.
Two of the stoves go into the stores, ask Alasdair.""",
        ),
    ),
)

MOVE = Thread(
    "17 Pier Road",
    labels=("Office", "Contracts"),
    mails=(
        Mail(
            "leckie",
            ("helen",),
            "2025-04-22 11:11",
            """Dear Ms Marsh,

You were looking for somewhere near the yard for the drawing office and the
accounts. The second storey of the old seamen's mission has come free: tall
windows, its own stair, eleven parking places. Shall we say Tuesday the 29th
at half past three?""",
            attachments=(papers.VIEWING,),
        ),
        Mail(
            "helen",
            ("priya", "dawn", "ruth"),
            "2025-04-30 09:05",
            """I like it very much. North light for Ruth, and one can see the slipway from
the east room. Priya, can we carry the rent if Shed 3 stays as it is? Dawn,
please count desks: I make it twenty-two.""",
        ),
        Mail(
            "leckie",
            ("helen",),
            "2025-06-09 10:20",
            """Dear Ms Marsh,

All signed and sealed. The factor's clerk has no machine newer than the
building, so please forgive the look of the enclosed. The keys are yours
from 25 August.""",
            cc=("priya",),
            attachments=(papers.LEASE,),
        ),
        Mail(
            "dawn",
            ("all",),
            "2025-08-20 14:00",
            """We are moving on Friday 29 August. Crates come on Wednesday; write your name
and room on two sides, in the red pen for the east room and the blue for the
west. Whatever has no name goes to the charity shop in Great Junction
Street. The telephones go over at three, after that please use your own.
Sandwiches at Pier Road from one.""",
        ),
    ),
)

OUTAGE = Thread(
    "nas2 is dark",
    labels=("IT", "Important"),
    mails=(
        Mail(
            "sam",
            ("all",),
            "2025-07-28 06:58",
            """Good morning,

nas2 went dark at 02:14. Until further notice nobody can open a drawing, a
calculation or a scanned letter; mail and telephones are not affected.
Please do not save "just for now" on your own machine and do not ring me
every ten minutes. I will write at ten.""",
        ),
        Mail(
            "sam",
            ("helen",),
            "2025-07-28 10:05",
            """Two of the five disks let go within eleven seconds of each other, log
attached. One would have been harmless. They are of the same age and the
same batch, which is my own doing: I ordered all five in one parcel in 2020.
The table shows which ones I would trust. I am rebuilding from Thursday's
tape; what was saved on Friday is lost unless it lies on somebody's laptop.""",
            attachments=(papers.BACKUP_LOG, papers.DISKS),
        ),
        Mail(
            "ruth",
            ("sam",),
            "2025-07-28 10:30",
            """I have Friday's version of the tender boat on mine, so that is one worry
less. The spreadsheet with the Cromarty weights is gone, about five hours'
toil.""",
            cc=("helen",),
            quote=True,
            signed=False,
        ),
        Mail(
            "sam",
            ("helen", "priya"),
            "2025-07-31 16:45",
            """All 412 gigabytes are back since two o'clock. So that it does not happen
again I would like a second box in a different building, with disks of two
makes, and a copy every hour: 6,310 pounds once and 44 a month. May I?""",
        ),
        Mail(
            "priya",
            ("sam",),
            "2025-08-01 09:12",
            """You may. Take it out of the telephone money, we are 9,000 under there.""",
            cc=("helen",),
            quote=True,
        ),
    ),
)

FENCE = Thread(
    "The fence behind Shed 2",
    labels=("Yard",),
    mails=(
        Mail(
            "owen",
            ("helen",),
            "2025-11-10 07:25",
            """We had visitors over the weekend. They cut the fence by the railway, backed
a van up to the door and took the welding cable and the good drills, list
attached. They must have known the dog was at the vet. Constable Ross was
here at seven; the case has the number PS-20251110-0418.""",
            attachments=(papers.STOLEN,),
        ),
        Mail(
            "helen",
            ("owen", "priya", "moir"),
            "2025-11-10 08:40",
            """Thank you, Owen. Finlay, please open a file. Owen, put the night watchman on
from tonight, through Gateside, at whatever it costs, until the camera on
the gasometer is mended.""",
            quote=True,
        ),
        Mail(
            "owen",
            ("helen", "all"),
            "2025-11-18 12:15",
            """The bronze propeller has turned up! A scrap dealer in Bathgate thought it
odd that somebody wanted forty pounds for it and rang the police. No sign of
the drills. The biscuit tin was found empty on the embankment.""",
        ),
    ),
)

KITCHEN = Thread(
    "Lunch from March",
    labels=("Office",),
    mails=(
        Mail(
            "bianchi",
            ("dawn",),
            "2025-02-18 10:10",
            """Ciao Dawn,

Here is what we would like to cook from the third of March. Nobody has to
eat flesh any more who would rather not: there are two days with lentils,
aubergines and such, and a soup without bones on request. Please tell me by
Monday about allergies.""",
            cc=("helen",),
            attachments=(papers.MENU,),
        ),
        Mail(
            "dawn",
            ("bianchi",),
            "2025-02-24 13:31",
            """Dear Rosa,

It sounds wonderful. One of the welders, Senga, swells up from sesame, so
please keep that apart. Otherwise only the usual complaint that half past
eleven is too early; see the answers. The fryer stays, I am afraid.""",
            cc=("helen",),
            attachments=(papers.SURVEY,),
        ),
    ),
)

LAGGING = Thread(
    "Stop: lagging behind the panel in Shed 1",
    labels=("Yard", "Important"),
    mails=(
        Mail(
            "owen",
            ("helen", "all"),
            "2025-09-04 13:50",
            """The joiners took down the tongue-and-groove by the old forge and found grey
fluffy lagging on the steam pipe. I do not like the look of it. The shed is
shut and taped, the three lads have had their overalls bagged and gone under
the shower. Nobody goes in until the laboratory in Livingston has seen a
sample.""",
        ),
        Mail(
            "owen",
            ("helen",),
            "2025-09-09 10:12",
            """It is asbestos, the brown sort. Caledonian Strip can come on the 22nd, nine
working days under a tent, 13,400 pounds. Until then the joiners are at Pier
Road, where Dawn has found them some sash windows to free.""",
            cc=("priya", "dawn"),
        ),
    ),
)

SPANIEL = Thread(
    "Bramble",
    mails=(
        Mail(
            "ruth",
            ("dawn",),
            "2025-09-30 09:20",
            """Dear Dawn, may I bring Bramble on Thursdays? She is a spaniel, eleven, deaf
and very polite, and my sister, who has her otherwise, starts a new job.""",
            cc=("helen",),
        ),
        Mail(
            "dawn",
            ("ruth",),
            "2025-09-30 11:02",
            """She may. The trustees forbid poultry, tar and so on, but say nothing of
spaniels. East room only, on a lead in the stair, and not while the man from
the model shop is here: he sneezes.""",
            cc=("helen",),
            quote=True,
        ),
    ),
)

SCAM = Thread(
    "Careful: false mails in my name",
    labels=("IT",),
    mails=(
        Mail(
            "sam",
            ("all",),
            "2025-10-07 09:00",
            """Yesterday Priya received a mail that seemed to come from Helen: would she
please send 18,600 euros to a "new partner" in Vilnius before the evening,
and keep it quiet. It came from tidewe11 with two ones instead of two
letters. Priya picked up the telephone and asked, which is exactly right.

Nobody here will ever ask you by mail to pay in a hurry and in secret. When
in doubt: ring.""",
        ),
        Mail(
            "priya",
            ("sam", "helen"),
            "2025-10-07 09:25",
            """For the file: it was the greeting that gave it away. Helen has never in
eight years called me "dearest".""",
            quote=True,
        ),
    ),
)

VANS = Thread(
    "Vans: mileage and tests",
    mails=(
        Mail(
            "dawn",
            ("owen", "tomasz"),
            "2025-09-15 12:20",
            """The mileage for the year so far is attached. The pool van is due for its
test next week and its left rear tyre will not pass; please take it to
Salamander Street before Friday.""",
            cc=("helen",),
            attachments=(papers.MILEAGE,),
        ),
    ),
)

THREADS = (BOILER, MOVE, OUTAGE, FENCE, KITCHEN, LAGGING, SPANIEL, SCAM, VANS)

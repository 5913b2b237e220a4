"""Sample threads: people who come, go, are ill, celebrate."""

from devstack.sample import papers_office as papers
from devstack.sample.model import Mail, Thread

HIRING = Thread(
    "Second naval architect",
    labels=("People",),
    mails=(
        Mail(
            "quintela",
            ("dawn",),
            "2025-02-26 20:14",
            """Dear Ms Achebe,

I saw in The Naval Architect that you are looking for a second pair of hands
in the drawing office. My papers are attached. I am free from June, I like
cold water, and I would bring a husband who bakes.""",
            cc=("helen",),
            attachments=(papers.CV,),
        ),
        Mail(
            "dawn",
            ("quintela",),
            "2025-03-10 10:00",
            """Dear Ms Quintela,

Thank you for your letter, which made Ruth laugh. We would like to meet you
on Tuesday 18 March; the invitation is attached. We pay the flight from
Vigo.""",
            cc=("helen", "ruth"),
            attachments=(papers.INTERVIEW,),
        ),
        Mail(
            "ruth",
            ("helen", "dawn"),
            "2025-03-19 08:36",
            """Take her. Of the four she is the only one who asked where the water goes. Mr
Pennycook has the better marks but held the lines plan upside down, and the
young man from Gdynia wants to do his designing from a beach in Madeira.""",
        ),
        Mail(
            "dawn",
            ("quintela",),
            "2025-03-24 15:30",
            """Dear Marta,

It is a pleasure to send you the attached. If you are content, please sign
and return it by 4 April.""",
            cc=("helen",),
            attachments=(papers.OFFER,),
            quote=False,
        ),
        Mail(
            "quintela",
            ("dawn", "helen", "ruth"),
            "2025-03-27 22:05",
            """Signed, posted, and a bottle of albariño opened. We arrive on 28 May with
the ferry from Santander, the baker, two bicycles and a sourdough called
Manolo.""",
        ),
    ),
)

HAND = Thread(
    "Joe and the pipe bender",
    labels=("Safety", "Important"),
    mails=(
        Mail(
            "owen",
            ("helen", "dawn"),
            "2025-05-14 14:52",
            """Joe has caught his left hand in the bender. Kenny hit the red button at
once. Dawn has bandaged him and is driving him to the Royal Infirmary. He
can feel all five fingers. The machine is locked off.""",
            signed=False,
        ),
        Mail(
            "dawn",
            ("helen", "owen"),
            "2025-05-14 18:20",
            """Nothing broken, nine stitches between thumb and forefinger. He is home with
his mother and may come back in three weeks, to light duties. He asked
whether he would still be allowed on the Süderelbe trip.""",
            quote=True,
        ),
        Mail(
            "kerr",
            ("helen",),
            "2025-05-16 11:00",
            """Dear Ms Marsh,

I have your notification of Wednesday. Please let me have your own report
within ten days. I shall visit on Tuesday 27 May at 10 and wish to speak
with the witness and to see the maintenance book of the machine.""",
        ),
        Mail(
            "helen",
            ("kerr",),
            "2025-05-22 17:05",
            """Dear Mrs Kerr,

Our report is attached; I have not tried to make it prettier than it is. You
will also find a picture of what was said to every shift on Monday.""",
            cc=("owen", "dawn"),
            attachments=(papers.ACCIDENT, papers.BENDER_BOARD),
            quote=True,
        ),
        Mail(
            "kerr",
            ("helen",),
            "2025-06-03 15:44",
            """Dear Ms Marsh,

I found a frank house and a tidy floor. I shall not prosecute. You will
receive an improvement notice concerning the inspection interval of the
press machines, to be met by 30 September. Kindly send me the slides that
you show to newcomers.""",
        ),
        Mail(
            "dawn",
            ("kerr",),
            "2025-06-04 09:10",
            """Dear Mrs Kerr, with pleasure, they are attached.""",
            cc=("helen",),
            attachments=(papers.INDUCTION,),
        ),
    ),
)

ALASDAIR = Thread(
    "Alasdair hangs up his brown coat",
    labels=("People",),
    mails=(
        Mail(
            "helen",
            ("all",),
            "2025-10-13 12:00",
            """Forty-one years after he came through the gate to "help out until
Christmas", Alasdair Gunn is handing over the keys of the stores. Please
come to Shed 3 on Friday 31 October at four for cake, a speech (short) and
the presentation of the clock. Senga is collecting for a greenhouse; give
what you like.""",
        ),
        Mail(
            "alasdair",
            ("helen", "all"),
            "2025-11-03 08:15",
            """Thank you all for Friday. I had not known that a greenhouse could be that
big. To whoever takes over: the left-hand threads are in the drawer marked
PUDDING, and the good vaseline is behind the flares.""",
        ),
    ),
)

PAY = Thread(
    "From April",
    labels=("People",),
    mails=(
        Mail(
            "helen",
            ("all",),
            "2025-03-03 09:00",
            """Dear all,

Thanks to you we closed last year better than we dared hope. From April
everybody gets 3.8 per cent more, the four apprentices 6 per cent, and the
allowance for the early shift goes from eleven to thirteen pounds. You will
see it for the first time on the slip at the end of that month.""",
        ),
        Mail(
            "joe",
            ("helen",),
            "2025-03-03 12:31",
            """Thanks very much from the four of us. That's the driving lessons sorted.""",
            signed=True,
            quote=True,
        ),
    ),
)

LEAVING = Thread(
    "Some news from me",
    labels=("People", "Important"),
    mails=(
        Mail(
            "sam",
            ("helen",),
            "2025-08-29 17:40",
            """Dear Helen,

This is not easy to write. After six years I have decided to move on: the
lifeboat service in Poole needs somebody for its whole network, and my
parents live round the corner. My last day would be 28 November. I will
write everything down, and the second box will be running before I go.""",
        ),
        Mail(
            "helen",
            ("sam",),
            "2025-08-30 10:15",
            """Dear Sam,

I read it twice and then walked round the dock. I am sorry for us and glad
for them. You have my word for any reference you need. Would you help me to
find whoever comes after you? Somebody who says "that is my own doing" as
you did in July is worth more to me than any certificate.""",
            quote=True,
        ),
    ),
)

BABY = Thread(
    "Away from February",
    labels=("People",),
    mails=(
        Mail(
            "dawn",
            ("helen",),
            "2025-10-16 16:12",
            """Helen, now that the scan is behind us I may say it: Chidi and I are having
twins, due on 6 March. I would like to be off from 2 February until the
autumn. Senga would enjoy minding the front desk, and her cousin Morag could
do the wages; she did them at the brewery for nine years.""",
        ),
        Mail(
            "helen",
            ("dawn",),
            "2025-10-16 16:20",
            """Twins! Congratulations to you both. Yes to everything. Please talk to Morag
next week.""",
            quote=True,
        ),
    ),
)

PARTY = Thread(
    "Friday the 19th",
    labels=("People",),
    mails=(
        Mail(
            "dawn",
            ("all",),
            "2025-12-08 11:30",
            """The year ends with a ceilidh: Friday 19 December from six, mould loft, with
the Salt Herring Band. Partners and children welcome. Rosa cooks venison and
a nut roast. Whoever wants a lift home tells Owen by Wednesday; there are
two minibuses, the last at half past midnight. The yard is closed until
Monday 5 January.""",
        ),
        Mail(
            "owen",
            ("helen",),
            "2025-12-09 08:01",
            """The quiz, for your eyes only. Do not leave it on the printer like last time.""",
            attachments=(papers.PARTY,),
            signed=False,
        ),
    ),
)

THREADS = (HIRING, HAND, ALASDAIR, PAY, LEAVING, BABY, PARTY)

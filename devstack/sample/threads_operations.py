"""Sample threads: ships on the slip, suppliers, the yard."""

from devstack.sample import papers_operations as papers
from devstack.sample.model import Mail, Thread

REFIT = Thread(
    "MV Corriemore: dates and scope",
    labels=("Projects/Corriemore", "Important"),
    mails=(
        Mail(
            "sandison",
            ("helen",),
            "2025-01-08 10:24",
            """Dear Helen,

The board at Stromness has agreed to give the Corriemore's refit to
Tidewell. We can spare her from Monday 24 February and must have her back
for the Easter traffic, which means the linkspan at Scrabster on Friday 11
April at the very latest. The Ola will cover the crossing meanwhile.

Two things our masters feel strongly about: the bow visor must stop letting
in spray, and the saloon seats are a disgrace. Please send me your
specification as soon as you have it.""",
            cc=("ingrid",),
        ),
        Mail(
            "ingrid",
            ("sandison",),
            "2025-01-14 09:12",
            """Dear Magnus,

Thank you, that is very good news. Revision C of the specification is
attached; item 5.7 is new and follows from what your mate told Ruth about
the chute. We have pencilled in slipway 2 from 24 February and I have asked
for high water at 06:40 that day, which gives us 4.9 metres over the sill.

Ruth would like to come up to Stromness to measure the plating before we
order steel. Would 21 January suit?""",
            cc=("helen", "tomasz"),
            attachments=(papers.REFIT_SPECIFICATION,),
            quote=True,
        ),
        Mail(
            "ruth",
            ("ingrid", "tomasz"),
            "2025-01-23 16:48",
            """Back from Orkney, with frozen fingers. The shell is better than I feared,
with one exception: see the table in the survey. We have to crop and renew
there, so please add two and a half metres of D strake to the steel order,
ten millimetre, grade A.

The chief engineer also took me to see the thruster. It sounds like a bag of
spanners.""",
            cc=("helen",),
            attachments=(papers.HULL_SURVEY,),
        ),
        Mail(
            "ingrid",
            ("helen", "priya"),
            "2025-02-04 11:30",
            """Helen, Priya,

The budget after the steel quotes. We are over on machinery and under on
outfitting, and I would like to keep the contingency untouched until she is
out of the water. Kenny Duncan leads the platers; Joe will spend the whole
job with the fitters, which is a good start for him.

Can you both say yes by Friday, so that I can place the orders?""",
            attachments=(papers.REFIT_BUDGET,),
        ),
        Mail(
            "helen",
            ("ingrid",),
            "2025-02-05 08:03",
            """Yes from me. Please ask Priya about the stage payments before you sign
anything with Paisley: I want forty per cent of it in our account before the
gearbox leaves the ship.""",
            cc=("priya",),
            quote=True,
        ),
    ),
)

THRUSTER = Thread(
    "Corriemore: the thruster comes out",
    labels=("Projects/Corriemore",),
    mails=(
        Mail(
            "tomasz",
            ("ingrid", "owen"),
            "2025-03-18 17:20",
            """We opened the gearbox this afternoon. Two teeth of the pinion are gone and
the rest are blue. It cannot be dressed; it has to be rebuilt. The oil was
grey, so water has been in there since the autumn.

My plan for Thursday is on the board, photo attached. Owen, I need the hall
door clear from seven.""",
            cc=("helen",),
            attachments=(papers.THRUSTER_BOARD,),
        ),
        Mail(
            "owen",
            ("tomasz",),
            "2025-03-18 18:02",
            """Door will be clear. The forklift is booked by the joiners until ten, I will
have words with them.""",
            cc=("helen", "ingrid"),
            quote=True,
            signed=False,
        ),
        Mail(
            "ingrid",
            ("sandison",),
            "2025-04-10 15:55",
            """Dear Magnus,

She passed her dock trials yesterday: full thrust to both sides for a
quarter of an hour, oil at 54 degrees, no noise at all. We float her off on
the morning tide tomorrow at 05:15 and Captain Rendall's crew takes her
north straight away, so you will have her at Scrabster by the evening, as
promised.

The old pinion is polished and mounted on oak. It is a present for your
boardroom.""",
            cc=("helen",),
        ),
    ),
)

BEARINGS = Thread(
    "Plummer blocks, order 5120",
    labels=("Suppliers", "Important"),
    mails=(
        Mail(
            "hallgrim",
            ("priya",),
            "2025-02-11 13:07",
            """Dear Ms Nair,

The eight plummer blocks left Bergen today with the Fjordline lorry and
should be in Leith on Friday. Our invoice is attached. May I remind you that
these were made in three weeks instead of six, at some cost to our foundry's
weekend?""",
            cc=("helen",),
            attachments=(papers.BEARING_INVOICE,),
        ),
        Mail(
            "tomasz",
            ("hallgrim",),
            "2025-02-19 10:41",
            """Dear Berit,

Three of the eight are too soft. We tested every one in our own lab on
Monday and again yesterday with a borrowed machine; the figures are in the
file. Numbers three, five and seven will wipe within a month at sea. I am
sorry, but we are not going to fit them, and we ask for replacements by 14
March at your expense.""",
            cc=("helen", "priya"),
            attachments=(papers.HARDNESS,),
        ),
        Mail(
            "hallgrim",
            ("tomasz",),
            "2025-02-21 09:15",
            """Dear Mr Wolny,

We do not accept this. All eight come from one melt and were released by an
independent surveyor. In our view the metal was overheated when your people
scraped the shells in. Until the matter is settled the invoice remains due
in full on 28 March.""",
            cc=("helen", "priya"),
            quote=True,
        ),
        Mail(
            "tomasz",
            ("helen", "priya"),
            "2025-02-27 08:22",
            """Neil Varley has sent me the paper himself; he was not happy with how it was
used. Open his mail, attached, and look at the last lines of the
certificate. They knew.

I suggest we withhold the sum for the three and hand the matter to Brodie in
Charlotte Square.""",
            subject="Fwd: Batch 4471",
            forwarded=Mail(
                "verity",
                ("tomasz",),
                "2025-02-26 19:33",
                """Dear Tomasz,

You asked what I saw at the foundry. I would rather you read it than hear it
from me on the telephone. The batch went out under a concession which I
signed for ballast pumps, not for a passenger ship's shaft line.""",
                subject="Batch 4471",
                attachments=(papers.CERTIFICATE,),
            ),
        ),
        Mail(
            "hallgrim",
            ("helen",),
            "2025-03-07 16:10",
            """Dear Ms Marsh,

After talking with Mr Varley I withdraw my letter. Three new blocks will be
with you on 13 March, carried by our own van, and we credit you 1,870
pounds for the trouble. I hope that this can remain between our houses.""",
            cc=("tomasz", "priya"),
        ),
    ),
)

PONTOON = Thread(
    "Grey Heron: signed copy",
    labels=("Projects/Corriemore", "Contracts"),
    mails=(
        Mail(
            "strachan",
            ("ingrid",),
            "2025-03-04 12:26",
            """Hello Ingrid,

As agreed on the quay yesterday. The copy with both names under it is
attached, straight off our old scanner. The key for the windlass is with the
harbour office, ask for Bruce.""",
            cc=("helen",),
            attachments=(papers.PONTOON_HIRE,),
        ),
        Mail(
            "ingrid",
            ("strachan",),
            "2025-05-20 09:47",
            """Hello Ewan,

We are finished with your Heron and she is swept and pumped dry. Can your
tug fetch her on the 22nd? I would rather not find out what happens if we
keep her beyond the eleven weeks.""",
            cc=("helen", "owen"),
            quote=True,
        ),
    ),
)

BREST = Thread(
    "Ar Vag : relevé et plan des formes",
    labels=("Projects/Ar Vag",),
    mails=(
        Mail(
            "legoff",
            ("ruth",),
            "2025-07-02 08:50",
            """Chère Ruth,

Voici les mesures prises la semaine dernière sur la coque de l'Ar Vag, ainsi
que le plan des formes. Au couple 31 la tôle est très mince ; le
propriétaire hésite entre une réparation et le remplacement de tout le
bordé. Il préfère que le chantier commence après les fêtes maritimes, donc
vers le 21 juillet.

Peux-tu me donner ton avis avant vendredi ?""",
            cc=("helen",),
            attachments=(papers.THICKNESS, papers.HULL_FORM),
            charset="iso-8859-1",
            encoding="8bit",
        ),
        Mail(
            "ruth",
            ("legoff",),
            "2025-07-03 14:18",
            """Dear Agnès,

Forgive my English. Renew the strake from 29 to 34, both sides, and leave
the rest: at seven millimetres and more she has fifteen good years. A
doubler over the thin spot would only trap water and cost you the class
notation. I cannot open the lines plan, our program is two versions older
than yours. Could you save it as IGES?""",
            cc=("helen",),
            quote=True,
        ),
    ),
)

HAMBURG = Thread(
    "Süderelbe 4: Übergabe",
    labels=("Projects/Süderelbe",),
    mails=(
        Mail(
            "harms",
            ("lukas",),
            "2025-06-12 11:05",
            """Sehr geehrter Herr Brandt,

der Schlepper soll am Dienstag, dem 17. Juni, um zehn Uhr in Steinwerder
übergeben werden. Bitte bringen Sie die Ersatzdichtungen und die
Betriebsanleitung in zweifacher Ausfertigung mit. Unser Kapitän besteht
außerdem auf einer Vorführung des Feuerlöschmonitors, weil er beim letzten
Mal nur achtzehn Meter weit gespritzt hat.""",
            cc=("helen",),
            charset="iso-8859-1",
            encoding="quoted-printable",
        ),
        Mail(
            "lukas",
            ("helen", "tomasz"),
            "2025-06-18 09:30",
            """Guten Morgen nach Leith,

die Übergabe ist erledigt, das Protokoll hängt an. Zwei Mängel sind offen,
beide klein. Der Monitor warf zweiundvierzig Meter, Herr Harms war sichtlich
zufrieden und hat uns gleich nach der Süderelbe 5 gefragt. Die
Schlussrechnung über 71.300 Euro kann heute hinaus.""",
            attachments=(papers.HANDOVER,),
            encoding="base64",
        ),
    ),
)

BLASTING = Thread(
    "Blasting hall: new rule from Monday",
    mails=(
        Mail(
            "owen",
            ("all",),
            "2025-05-15 07:10",
            """Morning all,

On Tuesday a handset went off in somebody's pocket while he held the nozzle,
he turned round to answer it, and forty pounds of grit took the lights out.
As of Monday they stay in the grey lockers by the door. No exceptions,
visitors and managers included. If your family needs you, they ring my desk
and I come and get you.""",
        ),
        Mail(
            "helen",
            ("owen",),
            "2025-05-15 08:31",
            """Quite right, and that includes me. Please put the desk number on the board
at the gate as well.""",
            quote=True,
            signed=False,
        ),
    ),
)

WINCH = Thread(
    "Winch foundation drawing",
    labels=("Yard",),
    mails=(
        Mail(
            "ruth",
            ("owen",),
            "2025-08-05 10:02",
            """Owen, the foundation for the slipway winch, as checked by the concrete
people at Musselburgh. They can pour on the 19th if you have the old plinth
broken out by then.""",
            cc=("helen",),
            attachments=(papers.EMPTY_DRAWING,),
        ),
        Mail(
            "owen",
            ("ruth",),
            "2025-08-05 10:40",
            """It says nought bytes, Ruth. There is nothing in it. Send me paper, I trust
paper.""",
            cc=("helen",),
            quote=True,
            signed=False,
        ),
        Mail(
            "ruth",
            ("owen",),
            "2025-08-05 11:14",
            """Sheet two as a PDF then; the export had stumbled over the full disk. And a
print is on your chair.""",
            cc=("helen",),
            attachments=(papers.WINCH_DRAWING,),
        ),
    ),
)

THREADS = (REFIT, THRUSTER, BEARINGS, PONTOON, BREST, HAMBURG, BLASTING, WINCH)

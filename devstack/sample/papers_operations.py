"""Files attached to the mails about ships, suppliers and customers."""

from devstack.sample import documents
from devstack.sample.documents import binary, event, pdf, slides, table, text, word, workbook
from devstack.sample.model import Attachment
from devstack.sample.scans import scanned_image, whiteboard

REFIT_SPECIFICATION = word(
    "Corriemore-specification-rev-C.docx",
    "MV Corriemore: refit specification, revision C",
    "This revision replaces the one of 6 January. Owner: Northsound Ferries. Place of work: slipway 2, "
    "Leith.",
    "# Scope",
    (
        ("Item", "Work", "Acceptance"),
        ("3.1", "Renew the bow visor seals", "Hose test at 2 bar, no weeping after ten minutes"),
        ("3.4", "Overhaul the port tailshaft", "Run-out at the coupling no more than 0.35 mm"),
        ("4.2", "Replace the car-deck drencher pump", "140 cubic metres an hour at 7 bar"),
        (
            "5.7",
            "New evacuation chute, starboard",
            "Deployed in under 90 seconds with the flag surveyor present",
        ),
        ("6.1", "Passenger saloon: reupholster 212 seats", "Fabric 'Lichen', flame certificate on board"),
    ),
    "# Paint",
    "Underwater hull: blast to Sa 2.5, two coats of anticorrosive, one silicone topcoat in oxide red. "
    "The funnel keeps its ochre; the owner supplies the tin.",
)

HULL_SURVEY = pdf(
    "Hull-survey-Corriemore.pdf",
    "MV Corriemore: ultrasonic survey of the shell, 21 January 2025",
    "Measured afloat at Stromness by R. Lindqvist with two technicians. Original plate 10 mm throughout.",
    (
        ("Frame", "Strake", "Remaining mm", "Remark"),
        ("12", "C port", "9.2", "sound"),
        ("27", "B starboard", "8.4", "light pitting"),
        ("41", "D port", "6.1", "below the limit of 7.0; crop and renew 2.4 m"),
        ("58", "A starboard", "8.9", "sound"),
    ),
    "The wastage at frame 41 sits behind the sewage tank, where the coating had been missed in 2011.",
)

REFIT_BUDGET = workbook(
    "Corriemore-budget.xlsx",
    {
        "Summary": [
            ("Heading", "Budget GBP", "Committed GBP"),
            ("Steel", 118000, 96400),
            ("Machinery", 274500, 281150),
            ("Outfitting", 143200, 120700),
            ("Contingency", 53000, 12600),
        ],
        "Machinery": [
            ("Job", "Subcontractor", "GBP"),
            ("Tailshaft and bearings", "Hallgrim Kulelager", 88400),
            ("Bow thruster gearbox rebuild", "Gearwright of Paisley", 61750),
            ("Drencher pump", "Solway Pumps", 23900),
        ],
        "Hours": [("Trade", "Name", "Hours"), ("Plater", "K. Duncan", 412), ("Fitter", "J. Tully", 268)],
    },
)

THRUSTER_BOARD = whiteboard(
    "IMG_2291-whiteboard.jpg",
    2291,
    "THRUSTER PLAN - Thursday",
    "1. lift by mobile crane 07:30 (Kenny)",
    "2. pinion to Paisley, courier Abernethy",
    "3. spare oil cooler from Peterhead",
    "4. dock trials: 9 April with Ruth",
    "Nobody under the hook!",
)

BEARING_INVOICE = pdf(
    "Invoice-HK-20417.pdf",
    "Hallgrim Kulelager AS: invoice HK-20417",
    "Solheimsgaten 14, Bergen. To: Tidewell Marine Engineering, Leith. Date: 11 February 2025.",
    (
        ("Position", "Description", "Quantity", "GBP"),
        ("1", "Plummer block, white metal, 210 mm bore", "8", "29,920.00"),
        ("2", "Thrust pad set, Michell pattern", "1", "7,480.00"),
        ("3", "Carriage Bergen to Leith", "1", "1,115.00"),
    ),
    "Total 38,515.00. Payable within 45 days to account 3624.11.90887.",
)

HARDNESS = table(
    "hardness-readings.csv",
    "bearing,position,brinell,verdict",
    "B1,top,27,pass",
    "B2,top,26,pass",
    "B3,bottom,14,reject",
    "B4,top,28,pass",
    "B5,bottom,15,reject",
    "B6,top,27,pass",
    "B7,bottom,13,reject",
    "B8,top,26,pass",
)

CERTIFICATE = pdf(
    "material-certificate.pdf",
    "Nordvik Verification: material certificate NV-88-3120",
    "Casting batch 4471, eight plummer blocks for Hallgrim Kulelager AS. Witnessed at Askøy on 30 "
    "January 2025 "
    "by N. Varley.",
    "Tin 83.1 per cent, antimony 9.8, copper 5.6, lead 1.5. The lead content exceeds the 0.35 per cent "
    "that the "
    "drawing allows. Batch released under concession 17 at the maker's request.",
)

PONTOON_HIRE = scanned_image(
    "signed-agreement-Grey-Heron.png",
    811,
    "# HIRE AGREEMENT",
    "made at Newhaven on 3 March 2025",
    "",
    "between Strachan Lighterage, owner, and Tidewell, hirer.",
    "",
    "1. The owner lets the flat-top barge Grey Heron, 32 metres,",
    "    for eleven weeks from 10 March 2025.",
    "2. The hire is GBP 4,800 for each week, fuel excluded.",
    "3. For tardy redelivery at Granton the hirer shall pay",
    "    liquidated demurrage of GBP 1,150 for every day.",
    "4. The hirer keeps the barge insured for GBP 640,000.",
    "5. No hot work within three metres of the ballast vents.",
    "6. Disputes go to an arbiter named by the Dean of Guild.",
    "",
    "Signed: E. Strachan                    Signed: H. Marsh",
    "Witness: P. Cattanach, notary's clerk",
)

THICKNESS = table(
    "Relevé d'épaisseur – été 2025.csv",
    "couple;virure;épaisseur_mm",
    "8;B bâbord;7,9",
    "15;C tribord;7,4",
    "22;quille;9,8",
    "31;B bâbord;5,6",
)

HULL_FORM = binary("Ar-Vag-lines.gfz", bytes((n * 73 + n // 7) % 256 for n in range(4096)))

HANDOVER = pdf(
    "Übergabeprotokoll Süderelbe.pdf",
    "Übergabeprotokoll: Schlepper Süderelbe 4",
    "Hamburg, Steinwerder, 17. Juni 2025. Anwesend: Uwe Harms, Lukas Brandt.",
    (
        ("Punkt", "Befund", "Frist"),
        ("Schlepphaken", "Auslösung geprüft, 45 Tonnen", "erledigt"),
        ("Kühlwasserpumpe", "tropft an der Gleitringdichtung", "27. Juni"),
        ("Ankerspill", "Bremsbelag ungleichmäßig abgenutzt", "4. Juli"),
    ),
    "Die Gewährleistung beginnt am Tag der Unterschrift und endet nach achtzehn Monaten.",
)

EMPTY_DRAWING = binary("winch-foundation.dwf", b"", "empty")

WINCH_DRAWING = pdf(
    "winch-foundation-sheet-2.pdf",
    "Slipway winch: foundation, sheet 2 of 2",
    "Concrete C40, 2.6 by 3.1 by 1.4 m. Sixteen anchor bolts M36, grade 8.8, in sleeves of 60 mm.",
    "Design pull 55 tonnes at the drum. Grout: non-shrink, 40 mm, cured seven days before loading.",
)

COMMISSIONING = Attachment(
    "skua-rock-commissioning.zip",
    "application/zip",
    "zip",
    lambda: documents.zip_bytes(
        {
            "report/sea-trial.docx": documents.docx_bytes(
                "Pilot cutter Skua Rock: sea trial, 28 May 2025",
                (
                    "Wind south-west 5, sea slight. Full power held for forty minutes off Inchkeith.",
                    "Alarm 14, stern gland temperature, tripped twice at 1,950 revolutions and was "
                    "muted by the skipper.",
                    (("Revolutions", "Knots"), (1200, "14.2"), (1650, "19.8"), (2050, "24.6")),
                ),
            ),
            "data/vibration.csv": b"rpm,mm_per_s\n1200,2.1\n1650,3.4\n1900,9.7\n2050,4.0\n",
            "readme.txt": b"Sensor on the gearbox foot. The reading at 1900 was repeated three times.\n",
        }
    ),
)

STAND_INVOICE = pdf(
    "BaltMar-stand-invoice.pdf",
    "BaltMar Expo: proforma 2025/0388",
    "Hall B, stand B-117, 24 square metres, corner. Build-up from 15 September, 08:00.",
    (
        ("Item", "EUR"),
        ("Floor space", "6,960.00"),
        ("Carpet, graphite", "312.00"),
        ("Three-phase supply, 5 kW", "285.00"),
        ("Hoist for the propeller exhibit", "540.00"),
    ),
)

FAIR_NEWSLETTER = text(
    "baltmar-exhibitors-news.html",
    "<html><head><title>BaltMar exhibitors' news</title></head><body><h1>BaltMar exhibitors' news</h1>"
    "<p>This year's keynote is given by Admiral Teresa Lindholm on ice-class propulsion.</p>"
    "<ul><li>Forklifts must be booked before 29 August.</li>"
    "<li>The tram to the halls is line 12 from Wrzeszcz; exhibitors ride free with their badge.</li>"
    "<li>The evening reception is aboard the museum ship Sołdek, Wednesday 17 September.</li></ul>"
    "</body></html>",
    "text/html",
    "html",
)

FAIR_CALENDAR = event(
    "baltmar.ics",
    "baltmar-2025@tidewell.example",
    "20250916T070000Z",
    "20250918T150000Z",
    "BaltMar Expo: stand duty",
    "AmberExpo\\, Gdańsk",
    "Tuesday Helen and Ruth\\; Wednesday Lukas and Tomasz\\; Thursday all four",
)

PETREL_QUOTE = pdf(
    "Quotation-Q-1093-Petrel.pdf",
    "Quotation Q-1093: survey launch Petrel",
    "For Hebrides Seabed Survey, attention Dr Macrae. Valid until 30 November 2025.",
    (
        ("Work", "GBP"),
        ("Moon pool, 600 mm, with hydraulic hatch", "47,300"),
        ("A-frame, 1.5 tonne, aluminium", "28,650"),
        ("Rewiring of the instrument rack", "9,870"),
    ),
    "Delivery sixteen weeks after the boat arrives on its own keel. Forty per cent with the order.",
)

PETREL_WEIGHTS = workbook(
    "Petrel-weights.xlsx",
    {
        "Stability": [
            ("State", "GM metres"),
            ("As she is", 0.92),
            ("With the A-frame", 0.71),
            ("Limit", 0.6),
        ],
        "Weights": [("Item", "kg"), ("A-frame", 385), ("Moon pool trunk", 540), ("Winch removed", -210)],
    },
)

QUARTER_SLIDES = slides(
    "Q2-review.pptx",
    ("Second quarter 2025", ("Tidewell Marine Engineering", "Board meeting, 10 July"), ""),
    (
        "Orders",
        ("Backlog 4.7 million pounds", "Largest: Corriemore, 588,700", "Lost: the Tobermory linkspan"),
        "",
    ),
    (
        "Yard",
        ("Slipway 2 occupied 71 days of 91", "Rework down to 3.2 per cent", "Eleven near misses reported"),
        "Say thank you to the platers here: the frame renewal took six days instead of nine.",
    ),
    (
        "Outlook",
        ("Hydrogen tender boat for Cromarty: decision in October",),
        "Partner would be Findhorn Cells.",
    ),
)

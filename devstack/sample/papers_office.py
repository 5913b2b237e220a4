"""Files attached to the mails about the house, the people and the money."""

from devstack.sample.documents import event, locked_pdf, pdf, slides, table, text, word, workbook
from devstack.sample.scans import receipt, scanned_pdf, whiteboard

LEASE = scanned_pdf(
    "lease-Pier-Road.pdf",
    412,
    (
        "# LEASE OF OFFICE PREMISES",
        "",
        "Landlord: the Trustees of the late Wm. Auchterlonie.",
        "Tenant: Tidewell, by its managing director.",
        "Premises: second storey, 17 Pier Road, 386 square metres.",
        "",
        "1. Term: nine years from 1 September 2025.",
        "2. Rent: GBP 73,500 a year, payable each quarter day.",
        "3. Surety: the tenant lodges GBP 27,600 with the factor,",
        "    returned without interest at ish.",
        "4. The tenant may break the lease after the third year",
        "    on seven months' written notice.",
    ),
    (
        "# SCHEDULE OF CONDITION",
        "",
        "The cornice in the east room is cracked over 80 cm.",
        "Eleven sash windows are painted shut.",
        "The goods hoist is out of use and stays with the landlord.",
        "No tenant shall keep poultry or boil tar on the premises.",
        "",
        "Signed before me, Ailsa Dunbar-Naismith, solicitor,",
        "at Edinburgh on 6 June 2025.",
    ),
)

VIEWING = event(
    "viewing-pier-road.ics",
    "viewing-17@leckieproperty.example",
    "20250429T143000Z",
    "20250429T153000Z",
    "Viewing: 17 Pier Road",
    "17 Pier Road\\, second storey",
    "Ring the brass bell\\; Mr Leckie brings the keys of both stairs",
)

BACKUP_LOG = text(
    "nas2-backup.log",
    "2025-07-28 01:00:02 nas2 snapshot started, 412 GB in 1,204,331 files\n"
    "2025-07-28 02:13:47 nas2 md0: bay 3 serial ZFN1X0K7 unrecoverable read error sector 88120412\n"
    "2025-07-28 02:13:58 nas2 md0: bay 5 serial ZFN1X0M2 timeout, kicked from array\n"
    "2025-07-28 02:14:01 nas2 md0: two members missing, array stopped\n"
    "2025-07-28 02:14:01 nas2 snapshot aborted at 61 per cent\n"
    "2025-07-28 06:32:19 nas2 console login sokafor\n",
)

DISKS = table(
    "disk-ages.csv",
    "bay,serial,hours,reallocated",
    "1,ZFN1X0J4,41210,0",
    "2,ZFN1X0J9,41208,4",
    "3,ZFN1X0K7,41213,1892",
    "4,ZFN9A77Q,8120,0",
    "5,ZFN1X0M2,41199,611",
)

STOLEN = table(
    "missing-items.csv",
    "item,quantity,value_gbp",
    "copper welding cable 70 mm2 (m),180,2430",
    "Fein core drill,2,1960",
    "bronze propeller for Petrel,1,5200",
    "apprentices' biscuit tin,1,12",
)

MENU = word(
    "menu-from-3-March.docx",
    "Bianchi Kitchens: what we cook from 3 March",
    (
        ("Day", "Pot", "Price"),
        ("Monday", "Cullen skink with oatcakes", "£4.20"),
        ("Tuesday", "Lentil and squash dhal, flatbread", "£3.90"),
        ("Wednesday", "Stovies", "£4.50"),
        ("Thursday", "Aubergine parmigiana", "£4.40"),
        ("Friday", "Haddock, peas, chips", "£5.60"),
    ),
    "Sesame is in the flatbread and in the dressing. Ask for Rosa if you react to it.",
)

SURVEY = workbook(
    "lunch-survey.xlsx",
    {
        "Answers": [
            ("Question", "Yes", "No"),
            ("Would you eat here twice a week?", 34, 9),
            ("Is half past eleven too early?", 31, 12),
            ("Would you give up the deep fryer?", 6, 37),
        ],
        "Wishes": [
            ("Who", "Wish"),
            ("Kenny Duncan", "black pudding"),
            ("Ruth Lindqvist", "proper rye bread"),
        ],
    },
)

MILEAGE = table(
    "vans-2025.csv",
    "registration,driver,miles,next_test",
    "SK71 TWL,Owen Pritchard,18220,2026-02-11",
    "SK22 TWM,Tomasz Wolny,9640,2025-11-03",
    "SN19 LTH,pool,41870,2025-09-26",
)

CV = pdf(
    "CV-Quintela.pdf",
    "Marta Quintela: curriculum vitae",
    "Born in Vigo, 1992. Languages: Galician, Spanish, English, some Norwegian.",
    "# Work",
    "2019 to 2024: hull draughtswoman at Astilleros Lagoa, Cangas. Led the lines of the research "
    "trawler Ría Nova.",
    "2016 to 2019: model-basin assistant in Trondheim; towing tests of planing catamarans.",
    "# Study",
    "Master of naval architecture, Ferrol, 2016. Thesis: spray rails on pilot boats below eighteen metres.",
)

OFFER = word(
    "offer-Quintela.docx",
    "Offer of employment",
    "Dear Marta, we are delighted to offer you the post of naval architect from 2 June 2025.",
    (
        ("Term", "Agreed"),
        ("Salary", "46,800 pounds a year"),
        ("Holiday", "31 days, public holidays included"),
        ("Trial period", "four months"),
        ("Removal", "up to 3,500 pounds against receipts"),
    ),
    "You will report to Ruth Lindqvist.",
)

INTERVIEW = event(
    "interview-quintela.ics",
    "interview-quintela@tidewell.example",
    "20250318T130000Z",
    "20250318T150000Z",
    "Talk with Marta Quintela",
    "Drawing office\\, Shed 3",
    "Bring the Skua Rock lines plan\\; Tomasz asks about spray rails",
)

ACCIDENT = word(
    "accident-report-2025-04.docx",
    "Accident report 2025/04",
    (
        ("When", "Wednesday 14 May 2025, 14:25"),
        ("Where", "Shed 3, pipe bender, bay C"),
        ("Who", "J. Tully, 19; witness K. Duncan"),
    ),
    "The two-hand control had been bridged with a jubilee clip, apparently for months. The clip has "
    "been sealed in a "
    "bag and kept. The machine was last inspected by Lothian Presses on 8 November 2023.",
    "# Measures",
    "New light curtain (quote 2,870 pounds). Toolbox talk for all shifts. Owen checks every guard on "
    "the first Monday.",
)

BENDER_BOARD = whiteboard(
    "toolbox-talk.jpg",
    2405,
    "TOOLBOX TALK 19 May",
    "Bender locked: key with Owen",
    "Report every bridged guard",
    "First aiders: Dawn, Kenny, Senga",
    "Eyewash moved to pillar 6",
)

INDUCTION = slides(
    "safety-induction.pptx",
    ("Welcome to the yard", ("What keeps you whole",), ""),
    (
        "Three sounds",
        ("Bell: crane moving", "Horn, two long: leave the dock floor", "Siren: muster at the gasometer"),
        "",
    ),
    (
        "Confined spaces",
        ("Permit from Owen", "Meter at 20.9 per cent oxygen", "A second person at the manhole"),
        "",
    ),
)

PAYROLL = locked_pdf(
    "payroll-2024-summary.pdf",
    "Payroll 2024: summary for the inspector",
    "Limpet-2207",
    "Gross wages 1,914,220 pounds; 44 people on average.",
)

CLAIM = pdf(
    "claim-form-TWM-0925.pdf",
    "Claim under policy MB/77/40136",
    "Insured: Tidewell Marine Engineering. Date of loss: 12 March 2025, about 06:15.",
    "The workboat Minnow broke from her berth in a squall and struck the lock gate. Her stem is stove "
    "in over 70 cm; "
    "the gate lost a greenheart fender. Wind at the time by the harbour log: 58 knots from north-north-east.",
    (
        ("Head", "GBP"),
        ("Repair of the stem", "11,900"),
        ("Fender, claimed by the port", "4,250"),
        ("Tow, see receipt", "2,340"),
    ),
)

TOW_RECEIPT = receipt(
    "IMG_2260-receipt.jpg",
    2260,
    "FIRTH TOWAGE, Burntisland",
    "12 March 2025    No. 00718",
    "Tug Inchgarvie, 3 hrs at 620.00",
    "Night surcharge      480.00",
    "TOTAL GBP          2,340.00",
    "Skipper: D. Meikle   PAID CARD",
)

ADJUSTER_LETTER = pdf(
    "letter-Stead-Cole.pdf",
    "Stead Cole Adjusters: our reference SC-5561",
    "Having inspected the berth on 2 April we find that the stern line had chafed through at an "
    "unprotected fairlead.",
    "We therefore recommend that underwriters pay 12,112 pounds, being three quarters of the sum "
    "claimed less the tow, "
    "which falls outside section F.",
)

AUDIT_ORDER = pdf(
    "Prüfungsanordnung-2025.pdf",
    "Finanzamt Hamburg-Hansa: Prüfungsanordnung",
    "Steuernummer 43/771/00914. Bei der Niederlassung Hamburg wird für die Jahre 2021 bis 2023 eine "
    "Außenprüfung "
    "durchgeführt. Prüfer: Herr Steueramtmann Jörn Petersen. Beginn: 8. September 2025, 9 Uhr.",
    "Vorzulegen sind die Reisekostenabrechnungen, das Fahrtenbuch des Firmenwagens und die Verträge mit "
    "der Muttergesellschaft.",
)

VAT = workbook(
    "vat-reconciliation.xlsx",
    {
        "By quarter": [
            ("Quarter", "Declared GBP", "Ledger GBP", "Difference"),
            ("2024 Q1", 61204, 61204, 0),
            ("2024 Q2", 58990, 61515, -2525),
            ("2024 Q3", 70112, 70112, 0),
            ("2024 Q4", 66430, 66388, 42),
        ],
        "Causes": [
            ("Quarter", "Cause", "Who"),
            ("2024 Q2", "export of the launch Whimbrel booked without proof of shipment", "P. Nair"),
            ("2024 Q4", "rounding on fuel cards", "S. Okafor"),
        ],
    },
)

MINUTES = word(
    "board-minutes-10-July.docx",
    "Minutes of the board, 10 July 2025",
    "Present: H. Marsh (chair), P. Nair, T. Wolny, R. Lindqvist. Apologies: Sir Hector Balfour.",
    "# Decisions",
    "1. The dividend is passed for this year; the money goes into the slipway winch.",
    "2. The company buys no more diesel vans; the next one is electric.",
    "3. Sir Hector leaves the board at Martinmas. Professor Adaeze Nwosu of Strathclyde is asked to "
    "follow him.",
)

STATEMENT = pdf(
    "statement-Northsound-June.pdf",
    "Statement of account: Northsound Ferries, 30 June 2025",
    (
        ("Invoice", "Due", "GBP"),
        ("T-2188 first stage", "14 March", "paid"),
        ("T-2231 second stage", "2 May", "196,200.00"),
        ("T-2240 seats and chute", "30 May", "41,375.00"),
    ),
    "Interest at eight per cent over base runs from the thirty-first day.",
)

SOLAR = pdf(
    "sunward-proposal.pdf",
    "Sunward Roofs: proposal for Shed 3",
    "264 modules on the south slope, 113 kilowatts peak. Yield in an ordinary year: 94,000 kilowatt-hours.",
    "Price 98,700 pounds; paid back in six and a half years. The trusses at gridline 7 need plating first.",
)

PARTY = text(
    "hogmanay-quiz.txt",
    "Shed 3 quiz, answers (do not read before the 19th)\n"
    "1. The first ship on slipway 2 was the steam drifter Girl Elspeth, 1908.\n"
    "2. Kenny has lost eleven tape measures this year.\n"
    "3. The gull on the gasometer is called Fergus.\n",
)

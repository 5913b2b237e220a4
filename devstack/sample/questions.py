"""Thirty questions to the sample mailbox, each with the one message that answers it.

Ten share no content word with their answer, ten are answered by an attachment or a scan alone, ten use
operators. They were written before the search was tuned, and are a test of it: do not adapt them to it.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Question:
    """A question, and the mail that answers it by its sender and date (as in ``Mail``)."""

    kind: Literal["meaning", "attachment", "operators"]
    query: str
    sender: str
    date: str
    answer: str = ""  # of an attachment: words of the answer, which stand in no message's text


QUESTIONS: tuple[Question, ...] = (
    Question("meaning", "heating broke down, staff freezing", "dawn", "2025-01-20 08:47"),
    Question("meaning", "phishing attempt pretending to be the boss", "sam", "2025-10-07 09:00"),
    Question("meaning", "thieves stole equipment in a burglary", "owen", "2025-11-10 07:25"),
    Question("meaning", "employee quits his job", "sam", "2025-08-29 17:40"),
    Question("meaning", "expecting babies, maternity leave", "dawn", "2025-10-16 16:12"),
    Question("meaning", "smartphones banned at work", "owen", "2025-05-15 07:10"),
    Question("meaning", "permission to take a dog to the workplace", "ruth", "2025-09-30 09:20"),
    Question("meaning", "flight cancelled, passengers slept at the airport", "ruth", "2025-09-20 21:12"),
    Question("meaning", "salary increase for staff", "helen", "2025-03-03 09:00"),
    Question("meaning", "angry client threatens legal action", "isbister", "2025-08-18 06:55"),
    Question(
        "attachment", "penalty for tardy redelivery of the barge", "strachan", "2025-03-04 12:26", "1,150"
    ),
    Question("attachment", "night surcharge of the tug", "priya", "2025-03-17 14:25", "Inchgarvie"),
    Question(
        "attachment", "when may the tenant break the lease", "leckie", "2025-06-09 10:20", "written notice"
    ),
    Question("attachment", "lead content of the casting", "tomasz", "2025-02-27 08:22", "antimony"),
    Question("attachment", "salary of the new naval architect", "dawn", "2025-03-24 15:30", "46,800"),
    Question(
        "attachment", "who gives the keynote on ice-class ships", "zielinska", "2025-08-11 09:00", "Lindholm"
    ),
    Question(
        "attachment", "which courier takes the pinion to Paisley", "tomasz", "2025-03-18 17:20", "Abernethy"
    ),
    Question("attachment", "alarm for the stern gland temperature", "tomasz", "2025-08-20 19:03", "muted"),
    Question("attachment", "who was asked to follow Sir Hector", "priya", "2025-07-14 11:50", "Nwosu"),
    Question(
        "attachment", "yield of the solar modules in kilowatt-hours", "patel", "2025-06-24 13:00", "94,000"
    ),
    Question("operators", 'from:isbister "close the file"', "isbister", "2025-08-22 12:40"),
    Question("operators", "has:attachment filename:pdf quotation moon pool", "ruth", "2025-10-20 11:48"),
    Question("operators", "from:priya after:2025/11/01 fund", "priya", "2025-11-26 10:45"),
    Question("operators", "label:tax before:2025-06-01 visit", "duffy", "2025-05-27 10:00"),
    Question("operators", "subject:Klaipėda -from:lukas", "priya", "2025-10-30 09:58"),
    Question("operators", "to:kerr filename:pptx", "dawn", "2025-06-04 09:10"),
    Question("operators", "from:tomasz to:berit blocks too soft", "tomasz", "2025-02-19 10:41"),
    Question("operators", "from:helen to:all (cake OR greenhouse)", "helen", "2025-10-13 12:00"),
    Question("operators", "in:sent winch price hold", "helen", "2025-07-15 09:33"),
    Question("operators", "type:spreadsheet from:ingrid budget -saloon", "ingrid", "2025-02-04 11:30"),
)

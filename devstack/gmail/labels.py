"""Gmail's labels: the system's own, and how Google Takeout names them in ``X-Gmail-Labels``."""

SYSTEM_LABELS = (
    "INBOX",
    "SENT",
    "DRAFT",
    "SPAM",
    "TRASH",
    "UNREAD",
    "STARRED",
    "IMPORTANT",
    "CHAT",
    "CATEGORY_PERSONAL",
    "CATEGORY_SOCIAL",
    "CATEGORY_PROMOTIONS",
    "CATEGORY_UPDATES",
    "CATEGORY_FORUMS",
)

_TAKEOUT = {
    "inbox": "INBOX",
    "sent": "SENT",
    "draft": "DRAFT",
    "drafts": "DRAFT",
    "spam": "SPAM",
    "trash": "TRASH",
    "unread": "UNREAD",
    "starred": "STARRED",
    "important": "IMPORTANT",
    "chat": "CHAT",
    "category personal": "CATEGORY_PERSONAL",
    "category social": "CATEGORY_SOCIAL",
    "category promotions": "CATEGORY_PROMOTIONS",
    "category updates": "CATEGORY_UPDATES",
    "category forums": "CATEGORY_FORUMS",
}
# What Takeout writes for mail that has been read or archived: the absence of a label.
_NO_LABEL = {"opened", "archived"}


def takeout_labels(header: str) -> list[str]:
    """The label names in an ``X-Gmail-Labels`` header, system labels by their ids."""
    names = [name.strip().strip('"') for name in header.split(",")]
    return [_TAKEOUT.get(name.lower(), name) for name in names if name and name.lower() not in _NO_LABEL]


def label_resource(label_id: str, name: str) -> dict[str, str]:
    """The ``Label`` resource as labels.list gives it."""
    if label_id in SYSTEM_LABELS:
        return {
            "id": label_id,
            "name": name,
            "messageListVisibility": "hide",
            "labelListVisibility": "labelHide",
            "type": "system",
        }
    return {"id": label_id, "name": name, "type": "user"}

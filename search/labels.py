"""Labels by the names that people know: documents bear ids, and each mailbox names its own."""

from collections.abc import Mapping

from schemas.events import LabelDirectory, labels_key


class LabelDirectories:
    """The label directories of all mailboxes, out of the registry's records."""

    def __init__(self, registry: Mapping[str, bytes]) -> None:
        suffix = labels_key("")
        self._names = {
            key.removesuffix(suffix): LabelDirectory.decode(value).names
            for key, value in registry.items()
            if key.endswith(suffix)
        }

    def name(self, mailbox_id: str, label_id: str) -> str:
        """What the mailbox calls a label; the id where nobody knows."""
        return self._names.get(mailbox_id, {}).get(label_id, label_id)

    def ids(self, name: str) -> dict[str, str]:
        """The label of that name (in any case) or id, by mailbox id."""
        wanted = name.lower()
        return {
            mailbox_id: label_id
            for mailbox_id, names in self._names.items()
            for label_id, known in names.items()
            if wanted in (known.lower(), label_id.lower())
        }

"""Labels by the names that people know: documents bear ids, and each mailbox names its own."""

import re
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
        """The label of that name or id, by mailbox id: in any case, and as Gmail writes names in queries
        (``projects-ar-vag`` for "Projects/Ar Vag")."""
        wanted = _spelled(name)
        return {
            mailbox_id: label_id
            for mailbox_id, names in self._names.items()
            for label_id, known in names.items()
            if wanted in (_spelled(known), _spelled(label_id))
        }


def _spelled(name: str) -> str:
    return re.sub(r"[\s/]", "-", name.lower())

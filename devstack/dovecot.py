"""A Dovecot on this machine: a real IMAP server with plain folders, CONDSTORE, QRESYNC and IDLE."""

from __future__ import annotations

import os
import pwd
import socket
from functools import partial
from pathlib import Path

from devstack.local import HOST, as_nobody
from devstack.programs import find_dovecot
from devstack.servers import LocalServer, handed_on

PASSWORD = "of-scratch-mail"  # noqa: S105 - it opens a scratch server on this machine
_ANSWER_SECONDS = 5.0

_CONFIGURATION = """
base_dir = {directory}/run
state_dir = {directory}/state
log_path = /dev/stderr
protocols = imap
listen = {host}
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain
default_login_user = {user}
default_internal_user = {user}
default_internal_group = {group}
mail_uid = {user}
mail_gid = {group}
first_valid_uid = 0
first_valid_gid = 0
mail_location = maildir:{directory}/mail/%u
namespace inbox {{
  inbox = yes
  separator = /
  mailbox Sent {{
    special_use = \\Sent
    auto = create
  }}
  mailbox Trash {{
    special_use = \\Trash
    auto = create
  }}
  mailbox Junk {{
    special_use = \\Junk
    auto = create
  }}
}}
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = home={directory}/home/%u
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
"""


def dovecot_server(directory: Path, port: int, *, capabilities: str = "") -> LocalServer:
    """A Dovecot in this directory, not started: any user name with PASSWORD has a mailbox of its own.

    ``capabilities`` replaces what it says of itself: ``IMAP4rev1`` makes it an old server. Under root it runs
    as nobody, who must be able to enter the directory. Raises ``DevstackError``.
    """
    program = find_dovecot()
    for name in ("run", "state", "mail", "home"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    user = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    group = "nogroup" if os.geteuid() == 0 else str(os.getegid())
    text = _CONFIGURATION.format(
        directory=directory, host=HOST, port=port, user=user, group=group, password=PASSWORD
    )
    if capabilities:
        text += f"imap_capability = {capabilities}\n"
    configuration = directory / "dovecot.conf"
    configuration.write_text(text)
    return LocalServer(
        name="Dovecot",
        directory=directory,
        command=[str(program), "-F", "-c", str(configuration)],
        answers=partial(_answers, port),
        environment=handed_on(),
        identity=as_nobody(directory) if os.geteuid() == 0 else {},
        ports=(port,),
    )


def _answers(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), _ANSWER_SECONDS) as connection:
            return connection.recv(4) == b"* OK"
    except OSError:
        return False

